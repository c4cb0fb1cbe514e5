"""Published encoder weights, frozen stages and deep supervision, from file to finished training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from segops.candidate_params import CandidateParams
from segops.contracts import TrainedModel
from segops.data.weights import fetch_weights
from segops.errors import UserError
from segops.files import sha256_file
from segops.inference.program import WEIGHTS_FILE
from segops.model_params import PretrainedParams, pretrained_params
from segops.models.blocks import SegmentationNetwork
from segops.models.catalogue import build
from segops.params import RuntimeParams, TrackingParams
from segops.stages.train import train
from segops.training.backbone import freeze, frozen_stages, load_backbone
from segops.training.task import supervised
from tests.model_entries import model_params
from tests.remote_servers import Served, http_server, put_objects, s3_server, use_aws
from tests.test_resume import interrupted
from tests.test_train import AWAY, candidate, run, same
from tests.tiny_prepared import write_prepared

VGG = {"architecture": "vgg16_unet", "width": 2, "batch_norm": True}
PARAM = "candidates.tiny.model.pretrained.weights"


def vgg(channels: int = 3, **given: Any) -> SegmentationNetwork:
    return build(model_params(**{**VGG, **given}), channels=channels, classes=2)


def published(path: Path, seed: int = 7, **changed: Tensor) -> dict[str, Tensor]:
    """Write an RGB encoder's weights as torchvision names them, with a classifier; statistics are random, too."""
    torch.manual_seed(seed)
    backbone = vgg().backbone()
    assert backbone is not None
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items() if "tracked" not in name}
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        if name.endswith("running_mean"):
            tensor.uniform_(-0.5, 0.5)
    weights |= {"classifier.weight": torch.rand(2, 3), **changed}
    save_file({name: tensor for name, tensor in weights.items() if tensor.numel()}, path)
    return weights


# ------------------------------------------------------------------------------------------------------------ loading


def test_an_encoder_takes_the_weights_of_a_file_and_leaves_other_names_alone(tmp_path: Path) -> None:
    weights = published(tmp_path / "w.safetensors")
    network = vgg()
    load_backbone(network, tmp_path / "w.safetensors", PARAM)
    state = network.state_dict()
    del weights["classifier.weight"]
    assert len(weights) == 13 * 6
    assert all(torch.equal(state[f"encoder.{name}"], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("channels", [1, 2])
def test_other_images_than_rgb_share_the_sum_of_the_first_weights(tmp_path: Path, channels: int) -> None:
    published(tmp_path / "w.safetensors")
    networks = {}
    for given in (3, channels):
        networks[given] = vgg(given).eval()
        load_backbone(networks[given], tmp_path / "w.safetensors", PARAM)
    grey_B1HW = torch.rand(2, 1, 32, 32)
    maps = [network.backbone()(grey_B1HW.expand(-1, given, -1, -1)) for given, network in networks.items()]
    for one, other in zip(*maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    published(path, **{"features.3.weight": torch.empty(0)})
    with pytest.raises(UserError, match=r"weights: w\.safetensors has no 'features\.3\.weight' \(1 of 78 names"):
        load_backbone(vgg(), path, PARAM)
    published(path, **{"features.3.weight": torch.rand(2, 2, 5, 5)})
    with pytest.raises(
        UserError, match=r"'features\.3\.weight' has the shape \[2, 2, 5, 5\], this encoder's is \[2, 2, 3"
    ):
        load_backbone(vgg(), path, PARAM)
    path.write_bytes(b"PK\x03\x04 a zip, as torch.save writes it")
    with pytest.raises(UserError, match=r"w\.safetensors is not a safetensors file .*docs/models\.md"):
        load_backbone(vgg(), path, PARAM)


# ----------------------------------------------------------------------------------------------------------- fetching


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    published(tmp_path / "w.safetensors")
    return tmp_path


@pytest.fixture
def served(project: Path) -> Iterator[Served]:
    served = Served((project / "w.safetensors").read_bytes())
    with http_server(served) as served.url:
        yield served


def test_a_file_is_kept_under_its_hash_and_needed_once(project: Path) -> None:
    source, cache = project / "w.safetensors", project / "cache"
    expected = sha256_file(source)
    kept = fetch_weights("w.safetensors", expected, cache, param=PARAM)
    assert kept == cache / f"{expected}.safetensors"
    source.unlink()
    assert fetch_weights("w.safetensors", expected, cache, param=PARAM) == kept
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"weights\.source: w\.safetensors: no such file"):
        fetch_weights("w.safetensors", expected, cache, param=PARAM)


def test_a_file_comes_over_http_and_a_wrong_hash_is_fetched_anew(project: Path, served: Served) -> None:
    expected, url = sha256_file(project / "w.safetensors"), f"{served.url}/resnet.safetensors"
    with pytest.raises(UserError, match=rf"weights\.sha256: resnet\.safetensors has {expected}, params expect 00"):
        fetch_weights(url, "0" * 64, project / "cache", param=PARAM)
    before = len(served.asked)
    kept = fetch_weights(url, expected, project / "cache", param=PARAM)
    assert len(served.asked) > before
    assert sha256_file(kept) == expected
    assert [path.name for path in (project / "cache").iterdir()] == [kept.name]


def test_a_file_comes_from_s3(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (project / "w.safetensors").read_bytes()
    with s3_server() as endpoint:
        use_aws(monkeypatch, endpoint)
        put_objects(endpoint, "models", {"vgg/w.safetensors": content})
        expected = sha256_file(project / "w.safetensors")
        kept = fetch_weights("s3://models/vgg/w.safetensors", expected, project / "cache", param=PARAM)
    assert kept.read_bytes() == content


@pytest.mark.parametrize("source", ["resnet50.pth", "https://x.org/a.pth?name=a.safetensors", "folder"])
def test_another_kind_of_file_is_refused_unread(project: Path, source: str) -> None:
    with pytest.raises(UserError, match=r"weights\.source: .*: not a \.safetensors file; docs/models\.md says how"):
        fetch_weights(source, "0" * 64, project / "cache", param=PARAM)


# ----------------------------------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [5, 5, 5, 5, 5, 5]),
        ({"freeze_epochs": 2}, [0, 0, 5, 5, 5, 5]),
        ({"freeze_epochs": 2, "unfreeze_stages": 3}, [0, 0, 3, 3, 3, 3]),
        ({"freeze_epochs": 1, "unfreeze_every": 2}, [0, 1, 1, 2, 2, 3]),
        ({"freeze_epochs": 1, "unfreeze_stages": 2, "unfreeze_every": 1}, [0, 1, 2, 2, 2, 2]),
        ({"unfreeze_stages": 0}, [0, 0, 0, 0, 0, 0]),
        ({"unfreeze_stages": 8}, [5, 5, 5, 5, 5, 5]),
    ],
)
def test_stages_learn_by_schedule_the_last_one_first(given: dict[str, int], expected: list[int]) -> None:
    params = PretrainedParams.model_validate(given)
    assert [params.learning_stages(epoch, stages=5) for epoch in range(1, 7)] == expected


def test_gradual_unfreezing_needs_a_frozen_beginning() -> None:
    with pytest.raises(ValueError, match="unfreeze_every needs freeze_epochs"):
        PretrainedParams(unfreeze_every=1)


@pytest.mark.parametrize(
    ("architecture", "stages"), [("atrous_resnet50_unet", 5), ("vgg16_unet", 5), ("efficientnet_unet", 8)]
)
def test_frozen_stages_neither_learn_nor_keep_count(architecture: str, stages: int) -> None:
    width = {} if architecture == "efficientnet_unet" else {"width": 4}
    model = model_params(architecture, **width, pretrained={"freeze_epochs": 1, "unfreeze_stages": 2})
    network = build(model, channels=3, classes=2)
    backbone = network.backbone()
    assert backbone is not None
    parts = backbone.stages()
    assert len(parts) == stages
    for epoch, learning in ((1, []), (2, parts[-2:])):
        network.train()
        freeze(model, network, epoch, spare_work=True)
        learns = {id(parameter) for part in learning for parameter in part.parameters()}
        for parameter in backbone.parameters():
            assert parameter.requires_grad == (id(parameter) in learns)
        assert network.output.weight.requires_grad
        training = {id(module) for part in learning for module in part.modules()}
        leaves = [module for module in backbone.modules() if not list(module.children())]
        assert all(module.training == (id(module) in training) for module in leaves)
        assert len(frozen_stages(model, network, epoch)) == stages - len(learning)


FROZEN = {"freeze_epochs": 2, "unfreeze_stages": 2, "unfreeze_every": 1}
RECIPES: dict[str, CandidateParams] = {
    "frozen-then-thawed": candidate(
        {**VGG, "pretrained": FROZEN}, epochs=5, ema_decay=0.8, keep="last", optimizer="adamw", weight_decay=0.1
    ),
    "deep-supervision": candidate(
        {"architecture": "unet_plus_plus", "base_filters": 2, "depth": 2},
        epochs=4,
        size=34,
        schedule={"name": "cosine"},
    ),
    "stochastic-depth": candidate(
        {"architecture": "efficientnet_unet", "decoder_filters": [2] * 5, "stochastic_depth": 0.5},
        epochs=2,
        batch_size=10,
        precise_bn_images=None,
    ),
}


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_a_resumed_training_is_equal(params: CandidateParams, tmp_path: Path) -> None:
    whole = run(params, tmp_path, "whole")
    for epoch in (2, 3)[: params.recipe.epochs - 1]:
        with pytest.raises(KeyboardInterrupt):
            interrupted(params, tmp_path, "cut", cut_off_in=epoch)
    resumed = run(params, tmp_path, "cut")
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_a_frozen_encoder_stays_as_it_was_and_a_thawed_part_moves(tmp_path: Path, ema_decay: float | None) -> None:
    def trained(epochs: int, name: str) -> dict[str, Tensor]:
        model = {**VGG, "pretrained": {"freeze_epochs": 2, "unfreeze_stages": 1}}
        recipe = {"keep": "last", "ema_decay": ema_decay, "weight_decay": 0.5, "schedule": {"name": "constant"}}
        return run(candidate(model, epochs=epochs, **recipe), tmp_path, name).weights

    first, second, third = (trained(epochs, f"epochs{epochs}") for epochs in (1, 2, 3))
    encoder = [name for name in first if name.startswith("encoder.")]
    assert all(torch.equal(first[name], second[name]) for name in encoder)
    moved = {name for name in encoder if not torch.equal(second[name], third[name])}
    last = {name for name in encoder if int(name.split(".")[2]) >= 34}  # features.34, .35, ...: the fifth stage
    assert moved
    assert moved <= last
    assert {name for name in last if name.endswith(("weight", "running_mean"))} <= moved
    assert not torch.equal(first["output.weight"], second["output.weight"])


# --------------------------------------------------------------------------------------------------- deep supervision


def test_losses_are_weighed_by_halves_that_sum_to_one() -> None:
    assert supervised([torch.tensor(5.0)]).item() == 5
    losses = [torch.tensor([value, 10 * value]) for value in (7.0, 14.0, 28.0)]
    assert supervised(losses).tolist() == pytest.approx([12, 120])  # (4 x 7 + 2 x 14 + 28) / 7


@pytest.mark.parametrize("architecture", ["attention_unet", "unet_plus_plus"])
def test_auxiliary_heads_learn_where_they_are_asked_for(architecture: str, tmp_path: Path) -> None:
    model = {"architecture": architecture, "base_filters": 2, "depth": 2}
    weights = [
        run(candidate(model, epochs=epochs, size=34, keep="last"), tmp_path, f"{epochs}").weights for epochs in (1, 2)
    ]
    assert not torch.equal(*(one["auxiliary.0.weight"] for one in weights))
    alone = run(candidate({**model, "deep_supervision": False}, epochs=1, size=34), tmp_path, "alone").weights
    assert set(weights[0]) - set(alone) == {"auxiliary.0.weight", "auxiliary.0.bias"}


# ---------------------------------------------------------------------------------------------------------- the stage


def test_the_stage_starts_from_the_file_and_tells_its_hash(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    write_prepared(project / "prepared")
    weights = published(project / "w.safetensors")
    frozen: dict[str, Any] = {"freeze_epochs": 1}

    def params(**given: Any) -> CandidateParams:
        return candidate({**VGG, "pretrained": {**frozen, **given}}, epochs=1, ema_decay=None)

    def stage(params: CandidateParams, name: str) -> TrainedModel:
        runtime = RuntimeParams(threads=1)
        return train("tiny", params, runtime, TrackingParams(), prepared=project / "prepared", model=project / name)

    sha256 = sha256_file(project / "w.safetensors")
    given = params(weights={"source": "w.safetensors", "sha256": sha256})
    model = stage(given, "one")
    assert model.pretrained_sha256 == TrainedModel.load(project / "one").pretrained_sha256 == sha256
    trained = load_file(project / "one" / WEIGHTS_FILE)
    del weights["classifier.weight"]
    assert all(torch.equal(trained[f"encoder.{name}"], tensor) for name, tensor in weights.items())
    (project / "w.safetensors").unlink()
    shutil.rmtree(project / "one")
    assert stage(given, "one").weights_sha256 == model.weights_sha256, "a finished training needs no file"

    scratch = stage(params(), "scratch")
    assert scratch.pretrained_sha256 is None
    assert scratch.key != model.key
    with pytest.raises(
        UserError, match=r"candidates\.tiny\.model\.pretrained\.weights\.source: x\.safetensors: no such"
    ):
        stage(params(weights={"source": "x.safetensors", "sha256": "0" * 64}), "none")
    assert not (project / "none").exists()


def test_params_without_an_encoder_have_no_weights() -> None:
    assert pretrained_params(model_params("unet")) is None
    with pytest.raises(ValueError, match="pretrained"):
        model_params("unet", pretrained={})
