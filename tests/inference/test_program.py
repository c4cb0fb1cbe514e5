"""A candidate as one program, in Python and as a torch.export graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.errors import UserError
from segops.export.backends import frame_hw
from segops.inference.program import SegmentationProgram
from segops.inference.trained import load_program
from segops.inference.windows import WindowRule
from segops.params.candidate import CandidateParams
from segops.params.inference import TestTimeAugmentation
from tests.support.small_models import brightness_program, candidate_params, save_candidate, small_program


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("hw", [(64, 64), (33, 97), (128, 40), (1, 1)])
def test_probabilities_have_the_images_size_and_range(resize: str, hw: tuple[int, int]) -> None:
    with torch.inference_mode():
        probability = small_program(resize=resize)(noise(2, 3, *hw))
    assert probability.shape == (2, 1, *hw)
    assert probability.dtype == torch.float32
    assert probability.min() >= 0
    assert probability.max() <= 1 + 1e-6


def test_several_classes_are_a_softmax() -> None:
    with torch.inference_mode():
        probability = small_program(classes=4)(noise(1, 3, 50, 70))
    assert probability.shape == (1, 4, 50, 70)
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(1, 50, 70))


@pytest.mark.parametrize("classes", [2, 3])
def test_sigmoid_channels_are_shares_of_their_sum(classes: int) -> None:
    program, image = small_program(classes=classes, outputs="sigmoid"), noise(1, 3, 64, 64)
    with torch.inference_mode():
        channels_BKHW = program.network(image).sigmoid()
        probability_BKHW = program(image)
    expected_BKHW = channels_BKHW / channels_BKHW.sum(dim=1, keepdim=True)
    assert channels_BKHW.shape[1] == classes
    torch.testing.assert_close(probability_BKHW, expected_BKHW[:, 1:] if classes == 2 else expected_BKHW)


def test_at_the_networks_own_size_a_program_is_normalization_network_and_sigmoid() -> None:
    program, image = small_program(normalize="symmetric"), noise(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(program(image), program.network(image * 2 - 1).sigmoid())


def test_a_size_that_the_network_cannot_halve_is_padded_and_cropped() -> None:
    program = small_program(size=[50, 67])
    with torch.inference_mode():
        probability = program(noise(1, 3, 50, 67))
        padded = torch.nn.functional.pad(noise(1, 3, 50, 67), (0, 1, 0, 2))
        expected = program.network(padded).sigmoid()[:, :, :50, :67]
    torch.testing.assert_close(probability, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_bright_objects_are_found_where_they_are(resize: str) -> None:
    image = torch.zeros(1, 3, 96, 160)
    image[:, :, 24:48, 40:80] = 1
    with torch.inference_mode():
        found = brightness_program(resize=resize)(image)[0, 0] > 0.5
    expected = image[0, 0] > 0.5
    both = (found & expected).sum() / (found | expected).sum()
    assert both > 0.9


@pytest.mark.parametrize(
    ("given", "classes", "tta"),
    [
        ({"resize": "stretch"}, 2, "none"),
        ({"resize": "pad", "normalize": "zscore", "channels": 1}, 3, "flips"),
        pytest.param({"resize": "none", "normalize": "symmetric"}, 3, "d4", marks=pytest.mark.slow),
        ({"resize": "stretch", "normalize": "imagenet", "channels": 1, "outputs": "sigmoid"}, 2, "none"),
    ],
    ids=["stretch", "pad-flips", "none-d4", "imagenet-sigmoid"],
)
def test_the_exported_program_is_equal_for_any_batch_height_and_width(
    given: dict[str, Any], classes: int, tta: TestTimeAugmentation, tmp_path: Path
) -> None:
    program = small_program(size=[64, 80], classes=classes, **given)
    program.tta = tta
    if program.resize != "none":  # with a side beyond 160 or 180 px an image is cut into windows
        program.windows = WindowRule.of_resized((31, 80), (45, 90), 0.25)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    traced = torch.export.export(program, (noise(2, program.channels, 71, 85),), dynamic_shapes=(sizes,))
    torch.export.save(traced, tmp_path / "program.pt2")
    exported = torch.export.load(tmp_path / "program.pt2").module()
    for batch, height, width in (
        (1, 64, 80),
        (2, 71, 85),
        (3, 128, 160),
        (1, 31, 77),
        (2, 200, 33),
        (2, 16, 16),
        (1, 1, 1),
    ):
        image = noise(batch, program.channels, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(exported(image), program(image), atol=1e-6, rtol=1e-5)


def test_larger_windows_than_the_patches_are_those_of_such_patches(tmp_path: Path) -> None:
    params = candidate_params(64, resize="none").model_dump(mode="json") | {"inference": {"window": [96, 160]}}
    wide = small_program([96, 160], resize="none")
    save_candidate(tmp_path, wide, CandidateParams.model_validate(params))
    loaded, _ = load_program(tmp_path)
    assert isinstance(loaded, SegmentationProgram)
    assert loaded.windows == WindowRule((96, 160), None, 0.25)
    assert frame_hw(loaded) == (96, 160)
    with torch.inference_mode():
        for height, width in ((96, 160), (40, 50), (200, 210)):
            image = noise(1, 3, height, width)
            assert torch.equal(loaded(image), wide(image))
        assert not torch.equal(loaded(image), small_program(64, resize="none")(image))


def test_a_saved_candidate_loads_as_it_was(tmp_path: Path) -> None:
    program = small_program()
    model = save_candidate(tmp_path, program, candidate_params())
    loaded, read = load_program(tmp_path)
    assert read == model
    with torch.inference_mode():
        assert torch.equal(loaded(noise(1, 3, 40, 40)), program(noise(1, 3, 40, 40)))


def test_other_weights_than_the_models_are_refused(tmp_path: Path) -> None:
    save_candidate(tmp_path, small_program(), candidate_params())
    with (tmp_path / WEIGHTS_FILE).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"weights.safetensors: not the weights that model.json names"):
        load_program(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, TrainedModel.FILE])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    save_candidate(tmp_path, small_program(), candidate_params())
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load_program(tmp_path)


def test_params_of_another_version_are_one_clear_line(tmp_path: Path) -> None:
    model = save_candidate(tmp_path, small_program(), candidate_params())
    model.model_copy(update={"params": {**model.params, "inputs": {}}}).save(tmp_path)
    with pytest.raises(UserError, match=r"model.json: params: unknown key 'inputs'; did you mean 'input'"):
        load_program(tmp_path)


@pytest.mark.parametrize("changed", [{"base_filters": 8}, {"depth": 3}])
def test_an_architecture_that_no_longer_fits_its_weights_is_one_line(tmp_path: Path, changed: dict[str, Any]) -> None:
    save_candidate(tmp_path, small_program(), candidate_params())
    path = tmp_path / "model.json"
    model = json.loads(path.read_text())
    model["params"]["model"] |= changed
    path.write_text(json.dumps(model))
    with pytest.raises(UserError, match=r"weights.safetensors doesn't fit the params in model.json \(") as said:
        load_program(tmp_path)
    assert "\n" not in str(said.value)
