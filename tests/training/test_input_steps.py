"""An image's way to the network: clipping, denoising, CLAHE, normalization; one way for everybody who takes it."""

from __future__ import annotations

from itertools import product
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from segops.contracts.model import InputStatistics
from segops.contracts.prepared import Prepared
from segops.data.arrays import PreparedData
from segops.inference import enhance
from segops.inference.predict import Predictor
from segops.inference.preprocess import pad_to_multiple, resize_image, unit_image
from segops.inference.steps import InputSteps
from segops.params.candidate import CandidateParams
from segops.params.input import InputParams
from segops.training.batches.subsets import open_subsets
from segops.training.input_statistics import input_statistics
from tests.support.small_models import save_candidate, small_program
from tests.support.tiny_prepared import write_prepared

EVERYTHING: dict[str, Any] = {
    "clip": {"percentiles": [1, 99]},
    "denoise_sigma_px": 0.8,
    "clahe": {"clip_limit": 2.0, "tiles": [2, 3]},
}


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_a_window_becomes_zero_to_one_and_cuts_off_what_lies_beyond() -> None:
    hounsfield = torch.tensor([-1000.0, -160.0, 40.0, 240.0, 3000.0]).view(1, 1, 1, 5)
    steps = InputSteps(InputParams.model_validate({"clip": {"window": [-160, 240]}, "channels": 1}), None)
    assert steps.enhance(hounsfield).flatten().tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (37, 52)])
def test_percentiles_are_numpys_by_image_and_channel(size: tuple[int, int]) -> None:
    image = noise(2, 3, *size)
    low, high = enhance.percentiles(image, (0.5, 99.5))
    expected = np.percentile(image.numpy(), [0.5, 99.5], axis=(2, 3))
    np.testing.assert_allclose(torch.stack([low, high])[..., 0, 0].numpy(), expected, atol=1e-6)


def test_a_constant_image_is_clipped_to_black() -> None:
    steps = InputSteps(InputParams.model_validate({"clip": {"percentiles": [0.5, 99.5]}}), None)
    assert steps.enhance(torch.full((1, 3, 5, 5), 0.3)).eq(0).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (37, 52)])
@pytest.mark.parametrize("sigma_px", [0.6, 2.5])
def test_denoising_is_scipys_gaussian_filter(size: tuple[int, int], sigma_px: float) -> None:
    image = noise(2, 3, *size)
    expected = ndimage.gaussian_filter(image.numpy(), (0, 0, sigma_px, sigma_px), mode="nearest")
    np.testing.assert_allclose(enhance.denoise(image, sigma_px).numpy(), expected, atol=1e-6)


def plain_clahe(level_HW: NDArray[np.int32], clip_limit: float, tiles: tuple[int, int]) -> NDArray[np.float64]:
    """OpenCV's clahe.cpp without its rounding, pixel by pixel, for tiles that divide an image of levels 0 to 255."""
    height, width = level_HW.shape[0] // tiles[0], level_HW.shape[1] // tiles[1]
    tables = {}
    for down, across in np.ndindex(tiles):
        tile = level_HW[down * height : (down + 1) * height, across * width : (across + 1) * width]
        limited = np.bincount(tile.ravel(), minlength=256).clip(max=max(int(clip_limit * tile.size / 256), 1))
        each, rest = divmod(tile.size - int(limited.sum()), 256)
        limited[:: 256 // max(rest, 1)][:rest] += 1
        tables[down, across] = (limited + each).cumsum() / tile.size
    mapped = np.zeros(level_HW.shape)
    for y, x in np.ndindex(*level_HW.shape):
        above, left = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
        for down, across in product((floor(above), floor(above) + 1), (floor(left), floor(left) + 1)):
            nearest = min(max(down, 0), tiles[0] - 1), min(max(across, 0), tiles[1] - 1)
            mapped[y, x] += (1 - abs(above - down)) * (1 - abs(left - across)) * tables[nearest][level_HW[y, x]]
    return mapped


@pytest.mark.parametrize("clip_limit", [1.0, 2.0, 3.3, 40.0])
def test_clahe_is_opencvs_algorithm_where_tiles_divide_the_image(clip_limit: float) -> None:
    level_HW = (noise(1, 1, 32, 48)[0, 0] ** 3 * 255).round().int()
    equalized = enhance.clahe(level_HW[None, None] / 255, clip_limit, (4, 3))[0, 0]
    np.testing.assert_allclose(equalized.numpy(), plain_clahe(level_HW.numpy(), clip_limit, (4, 3)), atol=1e-6)


def test_one_tile_without_a_limit_is_plain_equalization() -> None:
    image = torch.tensor([0, 51, 51, 255], dtype=torch.float32).view(1, 1, 2, 2) / 255
    # Shares of pixels at most as bright: 1/4, 3/4, 3/4, 1.
    assert enhance.clahe(image, 256.0, (1, 1)).flatten().tolist() == [0.25, 0.75, 0.75, 1.0]


def test_a_limit_of_one_leaves_a_ramp_as_it_is() -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, 256).repeat(1, 1, 16, 1)
    # Each bin holds the mean number of pixels: nothing is cut, and the running sum is the ramp, one bin ahead.
    torch.testing.assert_close(enhance.clahe(ramp, 1.0, (1, 1)), ramp * 255 / 256 + 1 / 256)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (37, 52)])
def test_clahe_keeps_the_range_of_any_size(size: tuple[int, int]) -> None:
    equalized = enhance.clahe(noise(2, 3, *size), 3.0, (8, 8))
    assert equalized.shape == (2, 3, *size)
    assert equalized.min() >= 0
    assert equalized.max() <= 1


def test_the_data_sets_zscore_is_by_channel() -> None:
    given = InputParams.model_validate({"normalize": "zscore_dataset"})
    steps = InputSteps(given, InputStatistics(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 0.0)))
    ones = steps.normalize(torch.ones(1, 3, 1, 1)).flatten().tolist()
    assert ones[:2] == [1.0, 3.0]
    assert not steps.state_dict()  # statistics stand in model.json


def test_statistics_are_of_training_images_alone(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path))
    given = InputParams.model_validate({"normalize": "zscore_dataset", "channels": 3})
    found = input_statistics(data, given)
    assert found is not None
    pixels = np.concatenate([data.image(row).reshape(-1, 3) for row in data.rows("train")]) / 255
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.std, pixels.std(axis=0), atol=1e-6)


def test_a_clip_over_foreground_takes_the_training_images_foreground(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path, channels=1))
    given = InputParams.model_validate({"clip": {"percentiles": [0, 100], "over": "foreground"}, "channels": 1})
    found = input_statistics(data, given)
    assert found is not None
    inside = np.concatenate([data.image(row)[data.mask(row) > 0] for row in data.rows("train")]) / 255
    assert found.low == pytest.approx((inside.min(),))
    assert found.high == pytest.approx((inside.max(),))


@pytest.mark.parametrize("resize", ["stretch", "pad", "none"])
def test_training_sees_what_the_program_sees(resize: str, tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    given = {**EVERYTHING, "size": [45, 37], "channels": 3, "resize": resize, "normalize": "zscore_dataset"}
    model = {"architecture": "unet", "base_filters": 2, "depth": 2}
    params = CandidateParams.model_validate({"model": model, "input": given})
    statistics = input_statistics(data, params.input)
    subsets = open_subsets(data, params, tmp_path / "cache", device=torch.device("cpu"))
    row = data.rows("val")[1]
    trained = subsets.steps.normalize(pad_to_multiple(subsets.val.batch([1], torch.device("cpu"))[0], (4, 4)))

    raw = unit_image(data.image(row), 255.0, 3)
    steps = InputSteps(params.input, statistics)
    seen = steps.enhance(raw)
    if params.input.resize != "none":
        seen = resize_image(seen, params.input.size_hw, params.input.resize)
    # Training holds 16-bit levels, twice rounded where it resizes.
    torch.testing.assert_close(trained, steps.normalize(pad_to_multiple(seen, (4, 4))), atol=2e-4, rtol=0)


def test_windows_of_native_pixels_are_cut_from_the_enhanced_image(tmp_path: Path) -> None:
    params = {**EVERYTHING, "size": 64, "resize": "none", "channels": 1}
    program = small_program(**params)
    save_candidate(tmp_path, program, CandidateParams.model_validate(_candidate(params)))
    predictor = Predictor.load(tmp_path)
    image_HWC = np.random.default_rng(0).integers(0, 256, (61, 53, 1), np.uint8)
    with torch.inference_mode():
        whole = program(unit_image(image_HWC, 255.0, 1))[0].numpy()
    inside = np.s_[:, 8:-8, 8:-8]  # the program pads by another amount, which the network sees at the border
    np.testing.assert_allclose(predictor.probability(image_HWC)[inside], whole[inside], atol=1e-5)


@pytest.mark.slow
def test_the_exported_program_holds_every_step(tmp_path: Path) -> None:
    program = small_program(size=[64, 80], normalize="zscore_dataset", **EVERYTHING)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    traced = torch.export.export(program, (noise(2, 3, 71, 85),), dynamic_shapes=(sizes,))
    torch.export.save(traced, tmp_path / "program.pt2")
    exported = torch.export.load(tmp_path / "program.pt2").module()
    for shape in ((1, 64, 80), (3, 31, 77), (2, 16, 16), (1, 1, 1)):
        image = noise(shape[0], 3, *shape[1:])
        with torch.inference_mode():
            torch.testing.assert_close(exported(image), program(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip": {}}, "either percentiles or a window"),
        ({"clip": {"percentiles": [1, 99], "window": [0, 1]}}, "either percentiles or a window"),
        ({"clip": {"window": [3, 1]}}, "the first must be the smaller one"),
        ({"clip": {"percentiles": [1, 101]}}, "must lie in 0..100"),
        ({"clahe": {"tiles": 65}}, "1..64 down and across"),
        ({"resize": "none", "normalize": "zscore"}, "take zscore_dataset"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InputParams.model_validate(given)


def _candidate(given: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"architecture": "unet", "base_filters": 2, "depth": 2}, "input": given}


def test_prepare_describes_training_images_alone(tmp_path: Path) -> None:
    from tests.support.factories import tiny_prepared

    folder = tiny_prepared(tmp_path, n=16)
    data, meta = PreparedData.open(folder), Prepared.load(folder)
    grey = [row for row in data.rows("train") if data.image(row).shape[-1] == 1]
    (found,) = meta.intensities["1"]
    pixels = np.concatenate([data.image(row).reshape(-1) for row in grey]) / 255
    inside = np.concatenate([data.image(row)[data.mask(row) > 0].reshape(-1) for row in grey]) / 255
    assert found.mean == pytest.approx(pixels.mean(), abs=1e-6)
    assert found.foreground_p99_5 == pytest.approx(np.percentile(inside, 99.5), abs=1e-6)
