"""Patches, augmentation and losses of volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from segops.contracts.masks import IGNORED
from segops.data.arrays import PreparedData
from segops.params.augment import AugmentParams
from segops.training.augmentation import augment as augmentation
from segops.training.augmentation.changes import Changes, draw_changes
from segops.training.batches.patches import PatchSubset
from segops.training.losses import make_loss
from tests.support.tiny_volumes import prepared_volumes
from tests.support.volume_runs import VOLUMES, params_of

CPU = torch.device("cpu")
STILL = AugmentParams(flip=False, rot90=False)
SIZE = (6, 16, 16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(radius: float, centre: tuple[float, ...] = (2.5, 7.5, 7.5), size: tuple[int, ...] = SIZE) -> Tensor:
    axes = [torch.arange(side) - middle for side, middle in zip(size, centre, strict=True)]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0)
    return (squares <= radius**2).to(torch.uint8)


def augmented(mask_BDHW: Tensor, spacing_mm: tuple[float, ...] | None = None, **given: Any) -> tuple[Tensor, Tensor]:
    params = STILL.model_copy(update=given)
    changes = draw_changes(len(mask_BDHW), tuple(mask_BDHW.shape[1:]), params, generator(), spacing_mm)
    image, mask = augmentation.augment(mask_BDHW[:, None].float(), mask_BDHW, changes)
    return image[:, 0], mask


# ------------------------------------------------------------------------------------------------------- patches


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_volumes(tmp_path_factory.mktemp("volumes"))


def test_patches_are_the_volumes_voxels_where_they_say_and_black_beyond(volumes: PreparedData) -> None:
    params = params_of({**VOLUMES, "input": {**VOLUMES["input"], "size": [12, 8, 16], "spacing_mm": None}})
    subset = PatchSubset(volumes, params)
    patches = subset.draw(list(range(len(subset))), generator())
    image_BCdhw, mask_Bdhw = subset.batch(patches, CPU)
    assert image_BCdhw.shape == (len(subset), 1, 12, 8, 16)
    for patch, image_Cdhw, mask_dhw in zip(patches, image_BCdhw, mask_Bdhw, strict=True):
        depth, top, left = patch.corner
        assert depth == 0  # ten slices in a patch of twelve
        inside = (slice(0, 10), slice(top, top + 8), slice(left, left + 16))
        np.testing.assert_array_equal(mask_dhw[:10].numpy(), volumes.mask(patch.row)[inside])
        np.testing.assert_array_equal(image_Cdhw[0, :10].numpy(), volumes.image(patch.row)[inside][..., 0])
        assert not image_Cdhw[:, 10:].any()
        assert not mask_dhw[10:].any()


def test_half_the_patches_are_about_a_kidney_where_only_foreground_is_asked_for(volumes: PreparedData) -> None:
    params = params_of(
        {**VOLUMES, "input": {**VOLUMES["input"], "size": [4, 8, 8]}}, foreground_patches=1.0, patches_per_image=100
    )
    subset = PatchSubset(volumes, params)
    patches = subset.draw(list(range(100)), generator())
    _, mask_Bdhw = subset.batch(patches, CPU)
    kidneys = (mask_Bdhw == 2).flatten(1).any(dim=1).float().mean()
    assert kidneys > 0.45
    assert (mask_Bdhw > 0).flatten(1).any(dim=1).float().mean() > 0.95


# -------------------------------------------------------------------------------------------------- augmentation


def test_flips_reach_all_eight_corners_and_a_direction_alone_flips_one_axis() -> None:
    corners = torch.zeros(200, 2, 3, 4, dtype=torch.uint8)
    corners[:, 0, 0, 0] = 1
    _, flipped = augmented(corners, flip=True)
    assert len({tuple(mask.nonzero()[0].tolist()) for mask in flipped}) == 8
    _, sideways = augmented(corners, flip="horizontal")
    assert {tuple(mask.nonzero()[0].tolist()) for mask in sideways} == {(0, 0, 0), (0, 0, 3)}


def test_quarter_turns_stay_in_a_square_plane_of_square_pixels() -> None:
    corners = torch.zeros(100, 3, 4, 4, dtype=torch.uint8)
    corners[:, 0, 0, 0] = 1
    assert {int(m.nonzero()[0, 0]) for m in augmented(corners, rot90=True)[1]} == {0}
    assert len({tuple(m.nonzero()[0].tolist()) for m in augmented(corners, rot90=True)[1]}) == 4
    assert len({tuple(m.nonzero()[0].tolist()) for m in augmented(corners, (1.0, 1.0, 2.0), rot90=True)[1]}) == 1


def test_a_turn_keeps_lengths_in_mm_about_every_axis() -> None:
    # A ball of 8 mm among voxels of 2 x 1 x 1 mm stays the ball that it is.
    size, spacing = (12, 24, 24), (2.0, 1.0, 1.0)
    axes = [(torch.arange(side) - (side - 1) / 2) * step for side, step in zip(size, spacing, strict=True)]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(dim=0)
    mask, near = (squares <= 8**2).to(torch.uint8), squares <= 11**2  # further out the mirrored border shows it again
    _, turned = augmented(mask.repeat(12, 1, 1, 1), spacing, rotate_deg=180.0)
    assert ((turned != mask)[:, near].sum(dim=1) <= 0.15 * mask.sum()).all()


def test_thick_slices_are_turned_within_themselves() -> None:
    slab = torch.zeros(16, *SIZE, dtype=torch.uint8)
    slab[:, 3] = 1
    _, tilted = augmented(slab, (1.0, 1.0, 1.0), rotate_deg=30.0)
    assert (tilted != slab).any()
    _, flat = augmented(slab, (3.0, 1.0, 1.0), rotate_deg=30.0)
    assert torch.equal(flat, slab)


def test_zoom_crop_shift_and_elastic_move_image_and_mask_together() -> None:
    mask = ball(4.5, size=(16, 16, 16), centre=(7.5, 7.5, 7.5)).repeat(16, 1, 1, 1)
    given: dict[str, Any]
    for given in ({"scale": 0.3}, {"crop": 0.4}, {"translate": 0.2}, {"elastic_px": 1.5}):
        image, moved = augmented(mask, None, **given)
        assert image.shape == mask.shape
        assert (moved != mask).any(), given
        assert ((image > 0.5) == (moved > 0)).float().mean() > 0.97, given
    zoomed = augmented(mask, scale=0.3)[1].flatten(1).sum(dim=1) / mask[0].sum()
    assert 0.34 * 0.8 < zoomed.min() < 1 < zoomed.max() < 1.3**3 * 1.2


def test_a_blur_spreads_alike_along_all_axes_and_a_shallow_patch_can_be_blurred() -> None:
    point = torch.zeros(1, 1, 9, 9, 9)
    point[0, 0, 4, 4, 4] = 1.0
    (blurred, _) = augmentation.augment(point, point[:, 0].to(torch.uint8), Changes(blur_B=torch.tensor([1.0])))
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    assert blurred[0, 0, 3, 4, 4] == blurred[0, 0, 4, 3, 4] == blurred[0, 0, 4, 4, 5]
    shallow = torch.rand(1, 1, 2, 9, 9)
    (smooth, _) = augmentation.augment(shallow, torch.zeros(1, 2, 9, 9), Changes(blur_B=torch.tensor([2.0])))
    assert smooth.shape == shallow.shape


def test_processes_draw_what_one_would() -> None:
    params = AugmentParams(rotate_deg=20, scale=0.1, elastic_px=1, crop=0.2, noise=0.1, gamma=0.5)
    mask = (torch.rand(4, *SIZE, generator=generator(1)) > 0.5).to(torch.uint8)
    changes = draw_changes(4, SIZE, params, generator(), (2.0, 1.0, 1.0))
    whole, _ = augmentation.augment(mask[:, None].float(), mask, changes)
    for share in ([0, 2], [1, 3]):
        part, _ = augmentation.augment(mask[share][:, None].float(), mask[share], changes.of(share))
        assert torch.equal(part, whole[share])


# -------------------------------------------------------------------------------------------------------- losses

LOSSES: list[dict[str, Any]] = [
    {"name": "bce"},
    {"name": "dice"},
    {"name": "bce_dice"},
    {"name": "generalized_dice"},
    {"name": "focal"},
    {"name": "dice_focal"},
    {"name": "tversky"},
]


@pytest.mark.parametrize("given", LOSSES, ids=lambda given: given["name"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_loss_of_a_volume_is_that_of_its_slices_below_one_another(given: dict[str, Any], channels: int) -> None:
    loss = make_loss(params_of(VOLUMES, loss=given).recipe.loss, sigmoid=channels == 1)
    logits = torch.randn(2, channels, 3, 4, 5, generator=generator(1))
    mask = torch.randint(3 if channels == 3 else 2, (2, 3, 4, 5), generator=generator(2)).to(torch.uint8)
    mask[0, 0, 0] = IGNORED
    flat = loss(logits.reshape(2, channels, 12, 5), mask.reshape(2, 12, 5))
    torch.testing.assert_close(loss(logits, mask), flat)


def test_cross_entropy_of_a_volume_is_torchs() -> None:
    loss = make_loss(params_of(VOLUMES, loss={"name": "bce"}).recipe.loss, sigmoid=False)
    logits, mask = torch.randn(2, 3, 2, 4, 5), torch.randint(3, (2, 2, 4, 5))
    torch.testing.assert_close(loss(logits, mask)[0], F.cross_entropy(logits, mask))
