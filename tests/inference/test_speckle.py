"""Filters against speckle: equal to other people's, and what follows from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from segops.inference.speckle import despeckle, lee, median, nonlocal_means
from segops.inference.steps import InputSteps
from segops.params.despeckle import DespeckleParams
from segops.params.input import InputParams
from tests.support.small_models import small_program


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size_px", [3, 5])
def test_the_median_is_scipys(size_px: int) -> None:
    image = noise(2, 3, 17, 24)
    expected = ndimage.median_filter(image.numpy(), (1, 1, size_px, size_px), mode="nearest")
    np.testing.assert_array_equal(median(image, size_px).numpy(), expected)


def test_nonlocal_means_weight_pixels_by_their_patches_as_defined() -> None:
    image = noise(1, 1, 20, 22)
    ours = nonlocal_means(image, 3, 5, 0.3)[0, 0]
    values = image[0, 0].numpy()
    row, column, total, weights = 9, 11, 0.0, 0.0
    own = values[row - 1 : row + 2, column - 1 : column + 2]
    for down in range(row - 2, row + 3):
        for across in range(column - 2, column + 3):
            patch = values[down - 1 : down + 2, across - 1 : across + 2]
            weight = np.exp(-np.mean((own - patch) ** 2) / 0.3**2)
            total, weights = total + weight * values[down, across], weights + weight
    assert float(ours[row, column]) == pytest.approx(total / weights, rel=1e-5)


@pytest.mark.parametrize("filter_", ["median", "lee", "nonlocal_means"])
def test_a_constant_image_stays_and_noise_gets_less(filter_: str) -> None:
    params = DespeckleParams.model_validate({"filter": filter_})
    flat = torch.full((1, 1, 20, 20), 0.4)
    torch.testing.assert_close(despeckle(flat, params), flat)
    speckled = flat * (1 + 0.2 * torch.randn((1, 1, 64, 64), generator=torch.Generator().manual_seed(1)))[..., :20, :20]
    assert despeckle(speckled, params).std() < 0.6 * speckled.std()


def test_lee_keeps_an_edge_that_varies_more_than_the_noise_and_flattens_what_does_not() -> None:
    step = torch.full((1, 1, 20, 20), 0.2)
    step[..., 10:] = 0.8
    assert lee(step, 5, 0.05)[0, 0, 10, 9] < 0.21  # Cu is 0.05 and Ci at the step about 0.6
    flattened = lee(step, 5, 1e3)
    np.testing.assert_allclose(flattened[0, 0, 10, 9], (3 * 0.2 + 2 * 0.8) / 5, atol=1e-6)


@pytest.mark.parametrize("filter_", ["median", "lee", "nonlocal_means"])
def test_the_filter_is_in_the_exported_program_for_any_size(filter_: str) -> None:
    given = {"filter": filter_, "size_px": 3, "search_px": 3}
    program = small_program(32, channels=1, despeckle=given).eval()
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    exported = torch.export.export(program, (noise(2, 1, 45, 53),), dynamic_shapes=(sizes,)).module()
    for size in ((40, 61), (33, 32)):
        image = noise(1, 1, *size)
        torch.testing.assert_close(exported(image), program(image), atol=1e-5, rtol=1e-4)


def test_steps_filter_after_clipping() -> None:
    given = {"channels": 1, "size": 32, "clip": {"window": [0, 0.5]}, "despeckle": {"filter": "median", "size_px": 3}}
    params = InputParams.model_validate(given)
    steps = InputSteps(params, None)
    image = noise(2, 1, 40, 36)
    assert steps.enhances
    torch.testing.assert_close(steps.enhance(image), median((image / 0.5).clamp(0, 1), 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"filter": "median", "size_px": 4}, "odd numbers"),
        ({"filter": "median", "strength": 0.1}, "median has no strength"),
        ({"filter": "frost"}, "median"),
    ],
)
def test_wrong_params_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DespeckleParams.model_validate(given)
