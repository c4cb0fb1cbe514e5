"""Resampling of volumes: sizes by hand, spheres that keep their volume, nnU-Net's rule for thick slices, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.data.resampling import Resampling
from segops.errors import UserError

THIN, THICK = (1.0, 1.0, 1.0), (4.0, 1.0, 1.0)


def test_sizes_are_rounded_to_the_nearest_and_are_at_least_one() -> None:
    resampling = Resampling.between((10, 20, 3), (3.0, 0.5, 1.0), (2.0, 1.0, 9.0))
    assert resampling.target_DHW == (15, 10, 1)
    assert resampling.coarse == 0


@pytest.mark.parametrize(
    ("own", "target", "coarse"),
    [
        (THIN, (2.0, 1.0, 1.0), None),
        (THICK, THIN, 0),
        ((3.0, 1.0, 1.0), THIN, None),  # three times is not more than three times
        (THIN, (1.0, 1.0, 5.0), 2),
        ((0.24, 1.25, 1.25), THIN, None),  # two axes are equally coarse
    ],
)
def test_the_coarse_axis_is_nnunets(
    own: tuple[float, float, float], target: tuple[float, float, float], coarse: int | None
) -> None:
    assert Resampling.between((8, 8, 8), own, target).coarse == coarse


def test_a_header_in_another_unit_asks_for_no_memory_but_for_a_correction() -> None:
    said = r"^40x60x60 voxels of 90 x 90 x 90 mm become 3600x5400x5400 of 1 x 1 x 1 mm, over 4 GiB; correct the header"
    with pytest.raises(UserError, match=said):
        Resampling.between((40, 60, 60), (90.0, 90.0, 90.0), THIN)


def test_along_a_coarse_axis_slices_are_repeated() -> None:
    image_DHWC = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((4, 6, 6, 1), np.float32)
    resampled = Resampling.between((4, 6, 6), THICK, (2.0, 1.0, 1.0)).image(image_DHWC)
    np.testing.assert_array_equal(resampled[:, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("target", [(1.0, 1.0, 1.0), (2.5, 0.8, 1.7), (3.0, 3.0, 3.0)])
def test_a_ball_keeps_its_volume_there_and_back(target: tuple[float, float, float]) -> None:
    spacing, size = (2.0, 1.0, 1.0), (20, 40, 40)
    axes = [(np.arange(side) - (side - 1) / 2) * step for side, step in zip(size, spacing, strict=True)]
    mask_DHW = (sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) <= 15**2).astype(np.uint8)
    resampling = Resampling.between(size, spacing, target)
    there = resampling.mask(mask_DHW)
    voxels = mask_DHW.size / there.size  # of the volume in one of the new grid, whose size was rounded
    assert there.sum() * voxels == pytest.approx(mask_DHW.sum(), rel=0.05)
    maps_KDHW = np.stack([1 - there.astype(np.float32), there.astype(np.float32)])
    back = resampling.back(maps_KDHW)
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-6)
    wrong = (back.argmax(axis=0) != mask_DHW).mean()
    assert wrong < 0.03


@given(st.tuples(*[st.integers(1, 12)] * 3), st.tuples(*[st.floats(0.3, 5)] * 3), st.tuples(*[st.floats(0.3, 5)] * 3))
def test_values_keep_their_range_and_masks_their_classes(
    size: tuple[int, ...], own: tuple[float, float, float], target: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    resampling = Resampling.between(size, own, target)
    image_DHWC = rng.normal(size=(*size, 2)).astype(np.float32)
    resampled = resampling.image(image_DHWC)
    assert resampled.shape == (*resampling.target_DHW, 2)
    for channel in range(2):
        assert image_DHWC[..., channel].min() - 1e-4 <= resampled[..., channel].min()
        assert resampled[..., channel].max() <= image_DHWC[..., channel].max() + 1e-4
    mask_DHW = rng.choice(np.array([0, 1, 255], np.uint8), size)
    assert set(np.unique(resampling.mask(mask_DHW))) <= {0, 1, 255}
    assert resampling.back(np.moveaxis(resampled, -1, 0)).shape == (2, *size)


def test_the_same_grid_is_left_as_it_is() -> None:
    image_DHWC = np.random.default_rng(0).normal(size=(3, 4, 5, 1)).astype(np.float32)
    np.testing.assert_array_equal(Resampling.between((3, 4, 5), THIN, THIN).image(image_DHWC), image_DHWC)
