"""Scores of volumes: distances in mm by hand, surface Dice as its authors' package gives it, agreement in ml."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from segops.contracts.masks import IGNORED
from segops.contracts.per_image import VOLUME_COLUMNS
from segops.evaluation.metrics import image_scores
from segops.evaluation.surface import surface_distances
from segops.evaluation.surface_dice import surface_dice
from segops.evaluation.volume_scores import agreement, summarize_volumes, volume_scores
from segops.params.evaluate import EvaluateParams

SPACING = (2.0, 1.0, 1.0)
Mask = npt.NDArray[np.bool_]


def ball(centre_mm: tuple[float, float, float], radius_mm: float) -> Mask:
    """A ball among 12 x 16 x 16 voxels of SPACING."""
    axes = [np.arange(side) * step for side, step in zip((12, 16, 16), SPACING, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return np.asarray(((grid - np.array(centre_mm)) ** 2).sum(-1) <= radius_mm**2)


def block(depth: slice, height: slice = slice(2, 6), width: slice = slice(2, 6)) -> Mask:
    mask_DHW = np.zeros((12, 16, 16), bool)
    mask_DHW[depth, height, width] = True
    return mask_DHW


def test_distances_are_in_mm_along_each_axis() -> None:
    # the same plate, three slices of 2 mm higher; and three columns of 1 mm further
    assert surface_distances(block(slice(2, 3)), block(slice(5, 6)), SPACING) == (6.0, 6.0, 6.0)
    further = block(slice(2, 3), width=slice(5, 9))
    assert surface_distances(block(slice(2, 3)), further, SPACING).hd == 3.0
    assert surface_distances(block(slice(2, 3)), block(slice(5, 6))) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("tolerance_mm", "expected"),
    [(0.5, 0.3743529941), (1.0, 0.5801114053), (1.5, 0.6560207986), (2.0, 0.8008423799), (3.0, 0.9801933364)],
)
def test_surface_dice_is_that_of_the_authors_package(tolerance_mm: float, expected: float) -> None:
    # surface-distance 0.1 (DeepMind), compute_surface_dice_at_tolerance of these two balls
    truth, predicted = ball((11, 7, 7), 6), ball((11, 8, 9), 5)
    assert surface_dice(truth, predicted, SPACING, tolerance_mm) == pytest.approx(expected, abs=1e-8)


def test_surface_dice_of_two_plates_by_hand() -> None:
    # A plate's surface is seen from corners between voxels: of plates two slices (4 mm) apart none lies within 3 mm,
    # and all within 4 mm.
    low, high = block(slice(2, 3), slice(0, 16), slice(0, 16)), block(slice(4, 5), slice(0, 16), slice(0, 16))
    assert surface_dice(low, high, SPACING, 4.0) == 1.0
    assert surface_dice(low, high, SPACING, 1.9) == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_distances_and_surface_dice_are_monais_on_random_masks_of_any_spacing(seed: int) -> None:
    """Blobs, single voxels and masks that touch the volume's edge, among voxels that are no cubes."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance

    random = np.random.default_rng(seed)
    spacing = tuple(random.uniform(0.3, 5, 3).tolist())
    share = random.choice([0.002, 0.1, 0.6])
    smooth = random.choice([0.0, 1.5])
    masks = []
    for _ in range(2):
        noise = gaussian_filter(random.random((7, 11, 13)), smooth)
        masks.append(noise >= np.quantile(noise, 1 - share))
    truth, predicted = masks
    options: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}
    truth_11DHW, predicted_11DHW = (torch.from_numpy(mask)[None, None].float() for mask in masks)
    hd95, hd = (
        compute_hausdorff_distance(predicted_11DHW, truth_11DHW, percentile=percentile, **options).item()
        for percentile in (95, None)
    )
    assd = compute_average_surface_distance(predicted_11DHW, truth_11DHW, symmetric=True, **options).item()
    assert surface_distances(truth, predicted, spacing) == pytest.approx((hd95, hd, assd), rel=1e-5)
    for tolerance_mm in (0.5, 2.0, 6.0):
        expected = compute_surface_dice(
            predicted_11DHW, truth_11DHW, [tolerance_mm], use_subvoxels=True, **options
        ).item()
        assert surface_dice(truth, predicted, spacing, tolerance_mm) == pytest.approx(expected, rel=1e-5)


def test_empty_masks_and_the_volumes_edge() -> None:
    nothing, all_of_it = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    assert math.isnan(surface_dice(nothing, nothing, SPACING, 1))
    assert surface_dice(nothing, all_of_it, SPACING, 1) == 0.0
    assert surface_dice(all_of_it, all_of_it, SPACING, 0.1) == 1.0


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5))
def test_surface_dice_is_symmetric_grows_with_the_tolerance_and_is_one_for_equal_masks(
    seed: int, tolerance_mm: float
) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random((4, 5, 6)) > 0.6, rng.random((4, 5, 6)) > 0.6
    score = surface_dice(one, other, SPACING, tolerance_mm)
    if one.any() and other.any():
        assert 0 <= score <= surface_dice(one, other, SPACING, tolerance_mm + 1) + 1e-12
        assert score == pytest.approx(surface_dice(other, one, SPACING, tolerance_mm))
        assert surface_dice(one, one, SPACING, tolerance_mm) == 1.0


def test_columns_of_a_volume() -> None:
    truth = np.where(block(slice(2, 4)), 1, 0) + np.where(block(slice(8, 9)), 2, 0)
    predicted = np.where(block(slice(2, 4)), 1, 0)
    row = volume_scores(truth, predicted, SPACING, 3, 1.0)
    assert set(row) == set(VOLUME_COLUMNS)
    assert row["depth"] == 12
    assert row["truth_ml"] == pytest.approx(3 * 16 * 2 / 1000)
    assert row["predicted_ml"] == pytest.approx(2 * 16 * 2 / 1000)
    assert row["hd95_mm"] == 0.0  # of the class that both have
    assert row["surface_dice"] == pytest.approx(0.5)  # of two classes one is missed
    truth[truth == 2] = IGNORED
    assert volume_scores(truth, predicted, SPACING, 3, 1.0)["truth_ml"] == row["predicted_ml"]
    unknown = volume_scores(truth, predicted, None, 3, 1.0)
    assert all(math.isnan(value) for name, value in unknown.items() if name != "depth")
    assert math.isnan(image_scores(truth, predicted, ["b", "c", "d"], in_pixels=False)["hd95_px"])


def test_bland_altman_by_hand() -> None:
    found = agreement(np.array([10.0, 20.0, 30.0, 0.0]), np.array([11.0, 23.0, 32.0, 0.0]))
    # differences 1, 3, 2: mean 2, deviation 1; the volumes without the class say nothing
    assert (found.volumes, found.truth_ml, found.bias_ml) == (3, 20.0, 2.0)
    assert (found.low_ml, found.high_ml) == pytest.approx((2 - 1.96, 2 + 1.96))
    single = agreement(np.array([10.0]), np.array([9.0]))
    assert (single.bias_ml, single.low_ml) == (-1.0, None)
    assert agreement(np.zeros(2), np.zeros(2)).bias_ml is None


def test_the_interval_of_surface_dice_is_over_patients_and_classes_have_their_own_ml() -> None:
    columns = {"image_id": ["a", "b", "c"], "group_id": ["p", "p", "q"], "surface_dice": [0.5, 0.7, 0.9]}
    distances = {name: [1.0, 2.0, 6.0] for name in ("hd95_mm", "hd_mm", "assd_mm")}
    pixels = {"pixels_c": [100, 200, 300], "predicted_pixels_c": [110, 200, 330]}
    others = {"pixels_d": [0, 0, 0], "predicted_pixels_d": [0, 0, 500]}
    table = pd.DataFrame({**columns, **distances, **pixels, **others, "truth_ml": 1.0, "predicted_ml": 1.0})
    index = pd.DataFrame({"image_id": ["a", "b", "c"], "spacing_d_mm": 10.0, "spacing_h_mm": 10.0, "spacing_w_mm": 1.0})
    scores = summarize_volumes(table, index, ["b", "c", "d"], EvaluateParams())
    assert scores is not None
    assert scores.hd95_mm == 3.0
    assert scores.surface_dice is not None
    assert scores.surface_dice.mean == pytest.approx(0.7)
    assert scores.surface_dice.groups == 2
    assert scores.volume_ml["c"].bias_ml == pytest.approx((1 + 0 + 3) / 3)
    assert (scores.volume_ml["d"].volumes, scores.volume_ml["d"].bias_ml) == (1, 50.0)
    assert summarize_volumes(table.assign(truth_ml=math.nan), index, ["b", "c", "d"], EvaluateParams()) is None
