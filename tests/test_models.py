"""Networks: what every entry of the catalogue must do, and the equality of the decoder's two paths."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from segops.candidate_params import ModelParams, ResUNetParams, UNetParams
from segops.files import sha256_lines
from segops.models.blocks import DecoderBlock, SegmentationNetwork, upsample, upsampled_weight
from segops.models.catalogue import build, count_parameters, initialize


@dataclass(frozen=True)
class Entry:
    """A published configuration with its known size, and a small one for what takes time."""

    name: str
    published: ModelParams
    channels: int
    parameters: int
    statistics: int
    keys_sha256: str
    small: ModelParams


SMALL_UNET = UNetParams(
    architecture="unet", base_filters=4, depth=2, batch_norm=True, dropout_bottleneck=0.1, dropout_decoder=0.1
)
CATALOGUE = (
    Entry(
        "resunet",
        ResUNetParams(architecture="resunet"),
        channels=3,
        parameters=4_713_841,
        statistics=5_376,
        keys_sha256="bb54ccf0d1d5ecd2221e838133d98b0e7aece237a623df5e9cf807e93dfcb1d1",
        small=ResUNetParams(architecture="resunet", filters=(4, 8, 16)),
    ),
    Entry(
        "resunet-shortcut-bn",
        ResUNetParams(architecture="resunet", shortcut_bn=True),
        channels=3,
        parameters=4_715_761,
        statistics=7_296,
        keys_sha256="915a59b9ab4671c302d5121f9576a9db99d9f0a80338e9d98ad54c78c2592cd4",
        small=ResUNetParams(architecture="resunet", filters=(4, 8), shortcut_bn=True),
    ),
    Entry(
        "unet",
        UNetParams(architecture="unet"),
        channels=1,
        parameters=31_030_593,
        statistics=0,
        keys_sha256="ee993cc398e346bfa522fb2d96c9a7e5e85956fc26ba75ad384774021fc04aeb",
        small=UNetParams(architecture="unet", base_filters=4, depth=3),
    ),
    Entry(
        "unet-bn-dropout",
        UNetParams(architecture="unet", batch_norm=True, dropout_bottleneck=0.5, dropout_decoder=0.2),
        channels=1,
        # batch norm adds a weight and a bias for each of the 2 x (64 + 128 + 256 + 512) x 2 + 2 x 1024 channels
        parameters=31_030_593 + 2 * 5_888,
        statistics=2 * 5_888,
        keys_sha256="61c3a687ca518b63c5ccceb67411ad626238748418af0b3081d0da0f71bb40c3",
        small=SMALL_UNET,
    ),
)
entries = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # for tensors this small a second thread only waits


def small(entry: Entry, classes: int = 2) -> SegmentationNetwork:
    network = build(entry.small, channels=entry.channels, classes=classes)
    initialize(network, "he", 0.0)
    return network


@entries
def test_parameters_running_statistics_and_state_dict_are_the_published_ones(entry: Entry) -> None:
    network = build(entry.published, channels=entry.channels, classes=2)
    statistics = [buffer for name, buffer in network.named_buffers() if "running" in name]
    assert count_parameters(network) == entry.parameters
    assert sum(buffer.numel() for buffer in statistics) == entry.statistics
    shapes = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items())
    assert sha256_lines(shapes) == entry.keys_sha256, "stored weights of earlier versions would no longer load"


@entries
@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (4, 4)])
def test_logits_have_the_size_of_the_image(entry: Entry, classes: int, outputs: int) -> None:
    network = small(entry, classes)
    height, width = 2 * network.multiple, 3 * network.multiple
    assert network(torch.rand(2, entry.channels, height, width)).shape == (2, outputs, height, width)


@entries
def test_every_parameter_gets_a_gradient(entry: Entry) -> None:
    network = small(entry)
    network(torch.rand(2, entry.channels, 16, 16)).square().mean().backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all() or not parameter.grad.any()
    ]
    # A bias before a batch norm cancels out; its gradient may round to 0.
    assert not [name for name in without if not name.endswith("conv.bias")]


@entries
def test_two_images_are_learnt_by_heart(entry: Entry) -> None:
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    mask_BHW = torch.stack([(y - 5) ** 2 + (x - 6) ** 2 < 12, (y > 8) & (x < 12)])
    image_BCHW = mask_BHW[:, None] * 0.5 + torch.rand(2, entry.channels, 16, 16) * 0.3
    network = small(entry)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(50):
        loss = F.binary_cross_entropy_with_logits(network(image_BCHW)[:, 0], mask_BHW.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network(image_BCHW)[:, 0] > 0).eq(mask_BHW).float().mean() > 0.98


@entries
def test_a_network_can_be_exported_for_any_batch_and_size(entry: Entry) -> None:
    network = small(entry).eval()
    sides = [network.multiple * torch.export.Dim(name, min=1) for name in ("rows", "columns")]
    example = torch.rand(2, entry.channels, 2 * network.multiple, 2 * network.multiple)
    program = torch.export.export(
        network, (example,), dynamic_shapes=({0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]},)
    )
    image_BCHW = torch.rand(1, entry.channels, 3 * network.multiple, 4 * network.multiple)
    torch.testing.assert_close(program.module()(image_BCHW), network(image_BCHW))


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
