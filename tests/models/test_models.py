"""Networks: what every entry of the catalogue must do, and the equality of the decoder's two paths."""

from __future__ import annotations

import copy
import json
from functools import partial
from math import log
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segops.files import sha256_lines
from segops.inference.preprocess import memory_layout
from segops.inference.program import SegmentationProgram
from segops.inference.volume_program import VolumeProgram
from segops.models.blocks import SegmentationNetwork, upsample
from segops.models.catalogue import ARCHITECTURES, build, count_parameters, initialize
from segops.models.decoder_block import DecoderBlock, upsampled_weight
from segops.params.candidate import CandidateParams
from segops.params.model import ModelParams, ResUNetParams
from tests.support.model_entries import CATALOGUE, TIRAMISU_103, Entry, model_params, resunet_plus_plus

KEYS = Path(__file__).with_name("model_keys.json")  # hash of each published configuration's state dict: names, shapes

entries = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
architectures = pytest.mark.parametrize(
    "entry", [entry for entry in CATALOGUE if not entry.variant], ids=lambda entry: entry.name
)


RESUNET = ResUNetParams(architecture="resunet", filters=(4, 8))

QUICK_TO_EXPORT = ("unet", "resunet", "mobile_unet", "resunet_plus_plus")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for tensors this small a second thread only waits


def small(entry: Entry, classes: int = 2) -> SegmentationNetwork:
    network = build(entry.small, channels=entry.channels, classes=classes, levels=entry.levels[1])
    initialize(network, "he", 0.0)
    return network


def pair(network: SegmentationNetwork, channels: int) -> tuple[Tensor, Tensor]:
    """image_BCHW of a disc and of a rectangle over noise, and mask_BHW; the sides are right for the network.

    Of volumes they are a ball and a block.
    """
    sides = [max(16, multiple) for multiple in network.multiples]
    *z, y, x = torch.meshgrid(*(torch.arange(side) * 16 / side for side in sides), indexing="ij")
    depth = (z[0] - 7) ** 2 if z else torch.zeros(())
    mask_BHW = torch.stack([(y - 5) ** 2 + (x - 6) ** 2 + depth < 12, (y > 8) & (x < 12) & (depth < 20)])
    return mask_BHW[:, None] * 0.5 + torch.rand(2, channels, *sides) * 0.3, mask_BHW


@entries
def test_parameters_running_statistics_and_state_dict_are_the_published_ones(entry: Entry) -> None:
    with torch.device("meta"):
        network = build(entry.published, channels=entry.channels, classes=2, levels=entry.levels[0])
    statistics = [buffer for name, buffer in network.named_buffers() if "running" in name]
    assert count_parameters(network) == entry.parameters
    assert sum(buffer.numel() for buffer in statistics) == entry.statistics
    shapes = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items())
    frozen = json.loads(KEYS.read_text())[entry.name]
    assert sha256_lines(shapes) == frozen, "stored weights of earlier versions would no longer load"


def test_every_architecture_is_tested_and_has_params() -> None:
    tested = {entry.published.architecture for entry in CATALOGUE}
    tested |= {"intensity", "external"}  # no networks: tests/stages/test_untrained.py and test_external.py
    assert tested == set(ARCHITECTURES)
    union, _ = get_args(ModelParams)
    assert tested == {get_args(one.model_fields["architecture"].annotation)[0] for one in get_args(union)}


def test_published_sizes_of_dense_networks_and_of_resunet_plus_plus() -> None:
    # Jégou et al. 2017, table 3: 3.5 million (FC-DenseNet67) and 9.4 million (103); Lasagne counts statistics too.
    for given, millions in (({}, 3.5), (TIRAMISU_103, 9.4)):
        with torch.device("meta"):
            network = build(model_params("dense_unet", **given), channels=3, classes=12)
        statistics = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
        assert round((count_parameters(network) + statistics) / 1e6, 1) == millions
    # Keras counts them as well in the public code: 4,070,385
    assert sum(resunet_plus_plus()) == 4_070_385


@entries
def test_probabilities_have_an_odd_images_size_whatever_the_number_of_classes(entry: Entry) -> None:
    patch = entry.patch[1] if entry.patch else (64, 64)
    kind = VolumeProgram if entry.patch else SegmentationProgram
    given = CandidateParams.model_validate(
        {"model": entry.small.model_dump(), "input": {"channels": entry.channels, "resize": "none", "size": patch}}
    )
    for classes, outputs in ((2, 1), (4, 4)):
        program = kind(small(entry, classes), given.input).eval()
        for size in ((37, 71), (1, 64)) if not entry.patch else ((9, 17, 35), (1, 16, 32)):
            with torch.inference_mode():
                probability = program(torch.rand(1, entry.channels, *size))
            assert probability.shape == (1, outputs, *size)
            assert probability.isfinite().all()


@entries
def test_every_parameter_gets_a_gradient(entry: Entry) -> None:
    network = small(entry)
    for logits in network.forward_all(pair(network, entry.channels)[0]):
        (logits * torch.rand_like(logits)).sum().backward(retain_graph=True)
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    # A bias before a batch norm cancels out; its gradient may round to 0.
    assert not [name for name in without if not name.endswith("bias")]


@entries
def test_auxiliary_logits_are_fractions_of_the_image_and_the_first_are_those_of_prediction(entry: Entry) -> None:
    network = small(entry, classes=3).eval()
    image_BCHW, _ = pair(network, entry.channels)
    with torch.inference_mode():
        logits = network.forward_all(image_BCHW)
        torch.testing.assert_close(logits[0], network(image_BCHW))
    assert network.deep_supervision == (len(logits) > 1)
    assert [len(one) for one in logits] == [2] * len(network.heads())
    fractions = [image_BCHW.shape[-1] / one.shape[-1] for one in logits]
    assert fractions == sorted(fractions)
    assert all(fraction in (1, 2, 4, 8) and one.shape[1] == 3 for fraction, one in zip(fractions, logits, strict=True))


@architectures
def test_two_images_are_learnt_by_heart(entry: Entry) -> None:
    network = small(entry)
    image_BCHW, mask_BHW = pair(network, entry.channels)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(80):
        logits_BHW = network(image_BCHW)[:, 0]
        loss = F.binary_cross_entropy_with_logits(logits_BHW, mask_BHW.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = (logits_BHW > 0).eq(mask_BHW).float().mean()
        if step > 10 and right > 0.99:
            break
    assert right > 0.98


@architectures
def test_bfloat16_and_channels_last_are_the_same_function(entry: Entry) -> None:
    network = small(entry).eval()
    image_BCHW, _ = pair(network, entry.channels)
    with torch.inference_mode():
        expected = network(image_BCHW)
        layout = memory_layout(network.dimensions)
        last = copy.deepcopy(network).to(memory_format=layout)  # type: ignore[call-overload]
        laid_out = last(image_BCHW.contiguous(memory_format=layout))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = last(image_BCHW.contiguous(memory_format=layout)).float()
    torch.testing.assert_close(laid_out, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    # bfloat16 keeps 8 bits; tens of layers add up to some percent of the logits' spread.
    assert (rounded - expected).abs().mean() < 0.05 * expected.abs().mean() + 0.02 * expected.std()


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, marks=[] if entry.name in QUICK_TO_EXPORT else pytest.mark.slow, id=entry.name)
        for entry in CATALOGUE
        if not entry.variant
    ],
)
def test_a_network_can_be_exported_for_any_batch_and_size(entry: Entry) -> None:
    network = small(entry).eval()
    names = ("rows", "columns", "slices")
    sides = [m * torch.export.Dim(name, min=2) for m, name in zip(network.multiples, names, strict=False)]
    example = torch.rand(2, entry.channels, *(2 * multiple for multiple in network.multiples))
    dynamic = {0: torch.export.Dim("batch"), **dict(enumerate(sides, start=2))}
    program = torch.export.export(network, (example,), dynamic_shapes=(dynamic,))
    times = (3, 4, 2)
    image_BCHW = torch.rand(1, entry.channels, *(n * m for n, m in zip(times, network.multiples, strict=False)))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(image_BCHW), network(image_BCHW), rtol=1e-4, atol=1e-5)


@architectures
def test_the_lowest_feature_map_is_where_the_network_says(entry: Entry) -> None:
    network, seen = small(entry).eval(), list[Tensor]()
    network.lowest().register_forward_hook(lambda module, given, result: seen.append(result))
    image_BCHW, _ = pair(network, entry.channels)
    network(image_BCHW)
    assert len(seen) == 1
    assert seen[0].dim() == image_BCHW.dim()
    assert seen[0].shape[-1] * 2 <= image_BCHW.shape[-1]


@entries
def test_a_backbones_stages_hold_each_of_its_parameters_once(entry: Entry) -> None:
    backbone = small(entry).backbone()
    if backbone is None:
        return
    of_stages = [parameter for stage in backbone.stages() for parameter in stage.parameters()]
    assert len(of_stages) == len({id(one) for one in of_stages})
    assert {id(one) for one in of_stages} == {id(one) for one in backbone.parameters()}
    assert dict(backbone.named_parameters())[backbone.first].shape[1] == entry.channels


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_resunet_takes_any_number_of_levels(depth: int) -> None:
    network = build(ResUNetParams(architecture="resunet", filters=(4,) * depth), channels=3, classes=2)
    assert network.multiple == 2 ** (depth - 1)
    assert network.eval()(torch.rand(1, 3, network.multiple, network.multiple)).shape[2] == network.multiple


@pytest.mark.parametrize("shortcut_bn", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_split_and_plain_decoder_are_the_same_function(shortcut_bn: bool, training: bool) -> None:
    params = ResUNetParams(architecture="resunet", filters=(4, 6, 8), shortcut_bn=shortcut_bn)
    split = build(params, channels=3, classes=2).double().train(training)
    for buffer in split.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    plain = copy.deepcopy(split)
    blocks = [module for module in plain.modules() if isinstance(module, DecoderBlock)]
    for block in blocks:
        assert block.split
        block.split = False
    assert len(blocks) == 2
    image_BCHW = torch.rand(3, 3, 8, 12, dtype=torch.float64)
    for _ in range(2):
        outputs = [network(image_BCHW) for network in (split, plain)]
        for output in outputs:
            (output.sigmoid() * torch.arange(12)).sum().backward()
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    close(outputs[0], outputs[1])
    for one, other in zip(split.parameters(), plain.parameters(), strict=True):
        close(one.grad, other.grad)
    assert list(split.state_dict()) == list(plain.state_dict())
    for name, buffer in split.state_dict().items():
        close(buffer, plain.state_dict()[name])


def test_upsampling_then_convolving_is_one_transposed_convolution() -> None:
    low_BCHW, weight_OI33 = torch.rand(1, 2, 5, 4, dtype=torch.float64), torch.rand(3, 2, 3, 3, dtype=torch.float64)
    expected = F.conv2d(upsample(low_BCHW), weight_OI33, padding=1)
    torch.testing.assert_close(
        F.conv_transpose2d(low_BCHW, upsampled_weight(weight_OI33), stride=2, padding=1), expected
    )


def test_initial_weights_follow_the_params() -> None:
    network = build(ResUNetParams(architecture="resunet"), channels=3, classes=2)
    weight = network.get_parameter("bridge.0.conv.weight")
    initialize(network, "he", -1.8)
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert network.output.bias is not None
    assert network.output.bias.tolist() == pytest.approx([-1.8])
    initialize(network, "glorot", 0.0)
    limit = (6 / (256 * 9 + 256 * 9)) ** 0.5
    assert weight.abs().max().item() == pytest.approx(limit, rel=0.01)
    assert not network.get_parameter("bridge.0.conv.bias").any()


def test_several_classes_start_at_the_same_logit_over_background() -> None:
    network = build(ResUNetParams(architecture="resunet", filters=(4, 8)), channels=1, classes=3)
    initialize(network, "he", -1.5)
    assert network.output.bias is not None
    assert network.output.bias.tolist() == [0.0, -1.5, -1.5]


# ---------------------------------------------------------------------------------------------------- sigmoid channels


def test_a_class_of_sigmoid_channels_has_its_share_of_their_sum() -> None:
    network = build(RESUNET, channels=1, classes=3, outputs="sigmoid")
    logits_BKHW = torch.tensor([0.0, log(3), -log(3)]).view(1, 3, 1, 1)  # 1/2, 3/4, 1/4
    probability = network.probabilities(logits_BKHW).flatten().tolist()
    assert probability == pytest.approx([0.5 / 1.5, 0.75 / 1.5, 0.25 / 1.5])
    two = build(RESUNET, channels=1, classes=2, outputs="sigmoid")
    assert two.output.out_channels == 2
    assert two.probabilities(logits_BKHW[:, :2]).flatten().tolist() == pytest.approx([0.75 / 1.25])
    far = torch.tensor([[-200.0, -200.0], [300.0, -300.0], [-500.0, 20.0]]).view(3, 2, 1, 1)
    assert two.probabilities(far).flatten().tolist() == pytest.approx([0.5, 0, 1])
    agreeing = torch.tensor([[-2.0, 2.0], [0.7, -0.7]]).view(2, 2, 1, 1)
    torch.testing.assert_close(two.probabilities(agreeing), agreeing[:, 1:].sigmoid())


def test_sigmoid_channels_start_at_the_expected_foreground() -> None:
    network = build(RESUNET, channels=1, classes=2, outputs="sigmoid")
    initialize(network, "he", -1.5)
    assert network.output.bias is not None
    assert network.output.bias.tolist() == [1.5, -1.5]
