"""Augmentation: image and mask move together, ranges hold, a seed repeats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segops.augment_params import AugmentParams
from segops.training import augment as augmentation
from segops.training.changes import draw_changes

STILL = AugmentParams(flip=False, rot90=False)


def augment(
    image_BCHW: Tensor, mask_BHW: Tensor, params: AugmentParams, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw changes and make them."""
    size = (image_BCHW.shape[2], image_BCHW.shape[3])
    changes = draw_changes(len(image_BCHW), size, params, generator)
    image_BCHW, mask_BHW = augmentation.augment(image_BCHW, mask_BHW, changes)
    return image_BCHW, mask_BHW


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, height: int = 16, width: int = 16) -> tuple[Tensor, Tensor]:
    """Images whose first channel is their mask."""
    mask_BHW = (torch.rand(count, height, width, generator=generator(1)) > 0.7).to(torch.uint8)
    return mask_BHW[:, None].float().repeat(1, 3, 1, 1), mask_BHW


def test_nothing_asked_is_nothing_done() -> None:
    image_BCHW, mask_BHW = batch()
    made = augment(image_BCHW, mask_BHW, STILL, generator())
    assert torch.equal(made[0], image_BCHW)
    assert torch.equal(made[1], mask_BHW)


@pytest.mark.parametrize("size_hw", [(16, 16), (12, 20)])
def test_flips_and_turns_move_image_and_mask_together(size_hw: tuple[int, int]) -> None:
    image_BCHW, mask_BHW = batch(32, *size_hw)
    moved_BCHW, moved_BHW = augment(image_BCHW, mask_BHW, AugmentParams(), generator())
    assert torch.equal(moved_BCHW[:, 0], moved_BHW.float())
    assert moved_BCHW.shape == image_BCHW.shape
    assert moved_BHW.dtype == torch.uint8
    assert torch.equal(moved_BHW.sum(dim=(1, 2)), mask_BHW.sum(dim=(1, 2)))


def test_flips_and_turns_reach_all_eight_positions_of_a_square_and_four_of_an_oblong() -> None:
    for (height, width), expected in {(2, 2): 8, (2, 3): 4}.items():
        corners = torch.zeros(200, height, width, dtype=torch.uint8)
        corners[:, 0, 0], corners[:, 0, -1] = 1, 2
        _, moved_BHW = augment(corners[:, None].float(), corners, AugmentParams(), generator())
        assert len({tuple(mask.flatten().tolist()) for mask in moved_BHW}) == expected


def test_affine_without_range_is_the_identity_and_a_shift_moves_by_its_share() -> None:
    image_BCHW, mask_BHW = batch(height=20, width=12)
    params = STILL.model_copy(update={"rotate_deg": 1e-9})
    still_BCHW, still_BHW = augment(image_BCHW, mask_BHW, params, generator())
    torch.testing.assert_close(still_BCHW, image_BCHW, atol=1e-4, rtol=0)
    assert torch.equal(still_BHW, mask_BHW)
    params = STILL.model_copy(update={"translate": 0.25})
    columns = torch.arange(40.0).repeat(64, 1, 40, 1) / 40
    shifted_BCHW, _ = augment(columns, mask_BHW[:1].expand(64, -1, -1), params, generator())
    shift_px = (shifted_BCHW[:, 0, :, 20] - columns[:, 0, :, 20]) * 40
    assert shift_px.abs().max() <= 10 + 1e-3
    assert shift_px.min() < -7
    assert shift_px.max() > 7


def test_rotation_keeps_lengths_on_oblong_images() -> None:
    height, width = 33, 65
    y, x = torch.meshgrid(torch.arange(height) - 16.0, torch.arange(width) - 32.0, indexing="ij")
    mask_BHW = (y**2 + x**2 <= 10**2).to(torch.uint8).repeat(16, 1, 1)
    params = STILL.model_copy(update={"rotate_deg": 180.0})
    turned_BCHW, turned_BHW = augment(mask_BHW[:, None].float(), mask_BHW, params, generator())
    middle = slice(16, 49)  # further out the mirrored border shows the disc again
    for turned in (turned_BHW, turned_BCHW[:, 0].round()):
        assert (turned != mask_BHW)[:, :, middle].sum(dim=(1, 2)).max() <= 40  # of some 60 pixels on the rim


def test_zoom_changes_areas_within_its_range() -> None:
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(64) - 31.5, indexing="ij")
    mask_BHW = (y**2 + x**2 <= 12**2).to(torch.uint8).repeat(64, 1, 1)
    params = STILL.model_copy(update={"scale": 0.5})
    _, zoomed_BHW = augment(mask_BHW[:, None].float(), mask_BHW, params, generator())
    middle = slice(12, 52)  # further out the mirrored border shows the disc again
    ratio = (zoomed_BHW[:, middle, middle].sum(dim=(1, 2)) / mask_BHW.sum(dim=(1, 2))).sqrt()
    assert 0.48 < ratio.min() < 0.6
    assert 1.4 < ratio.max() < 1.52


def test_brightness_is_a_factor_and_leaves_the_mask() -> None:
    image_BCHW = torch.rand(64, 3, 8, 8, generator=generator(2)) * 0.4 + 0.3
    mask_BHW = torch.ones(64, 8, 8, dtype=torch.uint8)
    made_BCHW, made_BHW = augment(image_BCHW, mask_BHW, STILL.model_copy(update={"brightness": 0.2}), generator())
    assert torch.equal(made_BHW, mask_BHW)
    factor_BCHW = made_BCHW / image_BCHW
    assert torch.allclose(factor_BCHW, factor_BCHW[:, :1, :1, :1].expand_as(factor_BCHW), atol=1e-6)
    assert 0.8 <= factor_BCHW.min() < 0.84
    assert 1.16 < factor_BCHW.max() <= 1.2


def test_contrast_keeps_the_mean_of_each_image() -> None:
    image_BCHW = torch.rand(64, 3, 8, 8, generator=generator(2)) * 0.4 + 0.3
    mask_BHW = torch.ones(64, 8, 8, dtype=torch.uint8)
    made_BCHW, _ = augment(image_BCHW, mask_BHW, STILL.model_copy(update={"contrast": 0.5}), generator())
    assert torch.allclose(made_BCHW.mean(dim=(1, 2, 3)), image_BCHW.mean(dim=(1, 2, 3)), atol=1e-6)
    spread = made_BCHW.std(dim=(1, 2, 3)) / image_BCHW.std(dim=(1, 2, 3))
    assert 0.5 <= spread.min() < 0.6
    assert 1.4 < spread.max() <= 1.5


def test_light_stays_in_range_and_dim_objects_stay_visible() -> None:
    glare = STILL.model_copy(update={"brightness": 0.9, "contrast": 0.9})
    mask_BHW = torch.ones(64, 8, 8, dtype=torch.uint8)
    bright_BCHW, _ = augment(torch.rand(64, 3, 8, 8, generator=generator(2)), mask_BHW, glare, generator())
    assert bright_BCHW.min() == 0
    assert bright_BCHW.max() == 1
    dim_BCHW = torch.full((64, 1, 8, 8), 0.02)
    dim_BCHW[:, :, 2:4, 2:4] = 0.06
    mild = STILL.model_copy(update={"brightness": 0.2, "contrast": 0.2})
    made_BCHW, _ = augment(dim_BCHW, mask_BHW, mild, generator())
    assert ((made_BCHW[:, 0, 2, 2] - made_BCHW[:, 0, 0, 0]) > 0.02).all()


def test_a_seed_repeats_and_images_draw_for_themselves() -> None:
    params = AugmentParams(rotate_deg=20, scale=0.2, translate=0.1, brightness=0.2, contrast=0.2)
    image_BCHW, mask_BHW = batch()
    image_BCHW, mask_BHW = image_BCHW[:1].repeat(8, 1, 1, 1), mask_BHW[:1].repeat(8, 1, 1)
    first, again, other = (augment(image_BCHW, mask_BHW, params, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert len({tuple(image.flatten().tolist()) for image in first[0]}) == 8
