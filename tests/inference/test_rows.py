"""A program takes an image by rows: the same probabilities, with no more of it in memory than a row of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segops.data.image_rows import ImageRows
from segops.inference import enhance, rows
from segops.inference.predict import Predictor
from segops.inference.program import EnsembleProgram
from segops.inference.rows import Rows, joined, mean_strips
from segops.inference.windows import WindowRule
from tests.support.small_models import small_program, trained_model

INPUTS: dict[str, dict[str, Any]] = {
    "stretch": {"resize": "stretch"},
    "pad": {"resize": "pad", "normalize": "zscore"},
    "windows": {"resize": "none"},
    "window": {"resize": "none", "clip": {"window": [0.1, 0.8]}, "denoise_sigma_px": 1.5},
    "percentiles": {"resize": "none", "clip": {"percentiles": [0.5, 99.5]}},
    "clahe": {"resize": "none", "clahe": {"tiles": 3}, "clip": {"percentiles": [1, 99]}, "denoise_sigma_px": 1},
    "median": {"resize": "none", "despeckle": {"filter": "median"}},
    "lee": {"resize": "none", "despeckle": {"filter": "lee", "strength": 0.2}},
    "means": {
        "resize": "none",
        "despeckle": {"filter": "nonlocal_means", "size_px": 3, "search_px": 5, "strength": 0.1},
    },
}
ESTIMATED = {"resize": "none", "despeckle": {"filter": "lee"}}  # its strength is of the whole image


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("given", [*INPUTS.values(), ESTIMATED], ids=[*INPUTS, "estimated"])
def test_strips_are_the_exported_programs_probabilities(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    program, image = small_program(**given), noise(1, 3, 211, 90)
    with torch.inference_mode():
        expected = program._all_windows_at_once(program.steps.enhance(image))
        monkeypatch.setattr(rows, "STRIP_PX", 900)  # ten rows at a time, where a step may choose
        strips = list(program.strips(Rows.of(image)))
    assert len(strips) > 2
    torch.testing.assert_close(joined(iter(strips)), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", INPUTS)
def test_a_tall_image_is_never_held_as_a_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    height, width, most, tallest = 9_000, 8, 300, 0
    monkeypatch.setattr(rows, "STRIP_PX", most * width)

    def read(first: int, last: int) -> np.ndarray:
        nonlocal tallest
        tallest = max(tallest, last - first)
        return np.zeros((last - first, width, 3), np.uint8)

    image = ImageRows(height, width, 3, np.dtype("u1"), read)
    predictor = Predictor(small_program(**INPUTS[kind]), trained_model())
    strips = predictor.strips(image)
    assert max(next(strips).probability_KHW.shape[1] for _ in range(3)) <= most
    assert tallest <= most + 8  # and what a filter reaches beyond a strip, on either side


def test_the_last_pixel_of_more_than_float32_can_number_is_found() -> None:
    image = torch.zeros(1, 1, 1, 2**24 + 2)  # whose last index is 2**24 + 1, which float32 rounds down
    image[..., 7] = 1
    assert enhance.percentiles(image, [100])[0].item() == 1


def test_percentiles_of_any_floats_are_those_of_the_sorted_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "STRIP_PX", 250)
    image = noise(2, 3, 40, 17) * 1e4 - 5e3
    image[0, 0, :20] = -0.0
    image[0, 1] = 7.5
    image[1, 2, 3, 3] = torch.inf
    wanted = (0.0, 0.5, 50.0, 99.5, 100.0)
    by_rows = enhance.percentiles_by_rows(Rows.of(image), wanted)
    for got, expected in zip(by_rows, enhance.percentiles(image, wanted), strict=True):
        finite = expected.isfinite()
        assert torch.equal(got[finite], expected[finite])


def test_members_whose_strips_differ_in_height_are_averaged_row_by_row() -> None:
    first, second = noise(1, 1, 10, 4), noise(1, 1, 10, 4) + 1
    strips = list(mean_strips([iter(first.split([3, 3, 4], 2)), iter(second.split([5, 5], 2))]))
    assert [strip.shape[2] for strip in strips] == [3, 2, 1, 4]
    torch.testing.assert_close(joined(iter(strips)), (first + second) / 2)


def test_an_ensembles_strips_are_its_probabilities() -> None:
    members = [small_program(resize="none"), small_program(size=96, resize="stretch")]
    members[1].windows = WindowRule.of_resized((31, 80), (45, 60), 0.25)
    program, image = EnsembleProgram(members), noise(1, 3, 300, 100)
    with torch.inference_mode():
        whole = program(image)
        torch.testing.assert_close(joined(program.strips(Rows.of(image))), whole, atol=1e-6, rtol=1e-5)
