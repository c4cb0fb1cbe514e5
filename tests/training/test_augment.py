"""Augmentation: image and mask move together, ranges hold, a seed repeats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segops.params.augment import AugmentParams
from segops.params.candidate import CandidateParams
from segops.training.augmentation import augment as augmentation
from segops.training.augmentation.changes import Changes, draw_changes

STILL = AugmentParams(flip=False, rot90=False)
EVERYTHING = AugmentParams(
    rotate_deg=30, scale=0.3, translate=0.2, elastic_px=3, crop=0.4, stain=0.2, brightness=0.3, contrast=0.3, gamma=1,
    blur_px=2, noise=0.2, salt_pepper=0.2,
)  # fmt: skip
SOMETIMES = EVERYTHING.model_copy(
    update={name: 0.5 for name in AugmentParams.model_fields if name.endswith("_probability")}
)


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


@pytest.mark.parametrize(
    ("how", "expected"), [("horizontal", {(1, 2), (2, 1)}), ("vertical", {(1, 2), (0, 0)}), (False, {(1, 2)})]
)
def test_one_flip_alone(how: Any, expected: set[tuple[int, int]]) -> None:
    corners = torch.zeros(50, 3, 3, dtype=torch.uint8)
    corners[:, 0, 0], corners[:, 0, -1] = 1, 2
    params = STILL.model_copy(update={"flip": how})
    _, moved_BHW = augment(corners[:, None].float(), corners, params, generator())
    assert {(int(mask[0, 0]), int(mask[0, -1])) for mask in moved_BHW} == expected


# ------------------------------------------------------------------------------------------- any combination


@given(
    seed=st.integers(0, 10_000),
    probability=st.sampled_from([0.3, 1.0]),
    off=st.sets(st.sampled_from(["rotate_deg", "elastic_px", "crop", "stain", "brightness", "gamma", "noise"])),
    size=st.sampled_from([(32, 32), (24, 40)]),
)
@settings(max_examples=30, deadline=None)
def test_any_combination_keeps_range_shapes_and_labels(
    seed: int, probability: float, off: set[str], size: tuple[int, int]
) -> None:
    changed: dict[str, Any] = dict.fromkeys(off, 0.0)
    for name in AugmentParams.model_fields:
        if name.endswith("_probability"):
            changed[name] = probability
    params = EVERYTHING.model_copy(update=changed)
    image_BCHW = torch.rand(4, 3, *size, generator=generator(seed)).round(decimals=1)
    mask_BHW = (torch.rand(4, *size, generator=generator(seed + 1)) * 3).to(torch.uint8) * 100  # labels 0, 100, 200
    made_BCHW, made_BHW = augment(image_BCHW, mask_BHW, params, generator(seed))
    assert made_BCHW.shape == image_BCHW.shape
    assert made_BCHW.dtype == torch.float32
    assert 0 <= float(made_BCHW.min()) <= float(made_BCHW.max()) <= 1
    assert made_BHW.shape == mask_BHW.shape
    assert made_BHW.dtype == torch.uint8
    assert set(made_BHW.unique().tolist()) <= {0, 100, 200}


def test_a_mark_moves_alike_in_image_mask_and_further_maps() -> None:
    mask_BHW = torch.zeros(64, 48, 64, dtype=torch.uint8)
    mask_BHW[:, 20:26, 30:36] = 1
    params = STILL.model_copy(update={"rotate_deg": 30, "scale": 0.2, "translate": 0.1, "elastic_px": 2, "crop": 0.2})
    changes = draw_changes(64, (48, 64), params, generator())
    image_BCHW, moved_BHW, map_BHW = augmentation.augment(
        mask_BHW[:, None].float(), mask_BHW, changes, mask_BHW.float()
    )
    assert torch.equal(image_BCHW[:, 0], map_BHW)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    places = []
    for seen_BHW in (map_BHW, moved_BHW.float()):
        total = seen_BHW.sum(dim=(1, 2))
        places.append(torch.stack([(seen_BHW * axis).sum(dim=(1, 2)) / total for axis in (y, x)], dim=1))
    assert (places[0] - places[1]).abs().max() < 0.5
    assert (places[0] - torch.tensor([22.5, 32.5])).norm(dim=1).max() > 5, "it does move"


def test_a_process_with_some_of_the_images_makes_what_one_with_all_makes() -> None:
    image_BCHW = torch.rand(8, 3, 32, 32, generator=generator(1))
    mask_BHW = (image_BCHW[:, 0] > 0.5).to(torch.uint8)
    changes = draw_changes(8, (32, 32), SOMETIMES, generator())
    whole = augmentation.augment(image_BCHW, mask_BHW, changes)
    for rows in ([0, 2, 4, 6], [1, 3, 5, 7], [3]):
        part = augmentation.augment(image_BCHW[rows], mask_BHW[rows], changes.of(rows))
        for one, all_of_them in zip(part, whole, strict=True):
            torch.testing.assert_close(one, all_of_them[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["affine", "elastic", "crop", "stain", "light", "gamma", "blur", "noise", "salt_pepper"]
)
def test_a_probability_is_the_share_of_images_that_change(name: str) -> None:
    ranges = {
        "affine": {"rotate_deg": 30.0},
        "elastic": {"elastic_px": 3.0},
        "light": {"contrast": 0.5},
        "blur": {"blur_px": 2.0},
    }
    params = STILL.model_copy(update=ranges.get(name, {name: 0.4}) | {f"{name}_probability": 0.3})
    image_BCHW = torch.rand(300, 3, 8, 8, generator=generator(1))
    made_BCHW, _ = augment(image_BCHW, image_BCHW[:, 0].to(torch.uint8), params, generator())
    changed_B = (made_BCHW - image_BCHW).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert float(changed_B.float().mean()) == pytest.approx(0.3, abs=0.08)


def test_an_element_that_is_switched_on_leaves_those_before_it_as_they_were() -> None:
    before = draw_changes(4, (32, 32), AugmentParams(rotate_deg=20, contrast=0.1), generator())
    after = draw_changes(4, (32, 32), AugmentParams(rotate_deg=20, contrast=0.1, gamma=1, noise=0.1), generator())
    for name in ("flips_BA", "turns_B", "angle_B", "zoom_B", "shift_BA", "contrast_B", "brightness_B"):
        assert torch.equal(getattr(before, name), getattr(after, name))


# ------------------------------------------------------------------------------------------- each by hand

COLUMNS_1CHW = (torch.arange(41.0) / 40).repeat(1, 3, 41, 1)  # 0 at the left, 1 at the right
NO_MASK = torch.zeros(1, 41, 41, dtype=torch.uint8)


def changed(image_BCHW: Tensor, **changes: Tensor) -> Tensor:
    return augmentation.augment(image_BCHW, image_BCHW[:, 0].to(torch.uint8), Changes(**changes))[0]


def test_elastic_shifts_are_the_coarse_ones_where_these_lie() -> None:
    shift_B2GG = torch.zeros(1, 2, 3, 3)
    shift_B2GG[0, 0, 1, 1] = 4.0  # four pixels to the right at the middle
    made = changed(COLUMNS_1CHW, elastic_BAG=shift_B2GG)
    assert made[0, 0, 20, 20].item() == pytest.approx((20 + 4) / 40, abs=1e-4)
    assert torch.allclose(made[0, 0, :, 0], COLUMNS_1CHW[0, 0, :, 0], atol=1e-4)
    assert torch.allclose(made[0, 0, 0], COLUMNS_1CHW[0, 0, 0], atol=1e-4)
    assert 20 / 40 < made[0, 0, 10, 20] < 24 / 40
    rows = changed(COLUMNS_1CHW.mT.contiguous(), elastic_BAG=shift_B2GG)
    torch.testing.assert_close(rows, COLUMNS_1CHW.mT, atol=1e-4, rtol=0)  # nothing moves up or down


def test_elastic_shifts_have_the_deviation_that_is_asked_for() -> None:
    params = STILL.model_copy(update={"elastic_px": 3.0, "elastic_grid": 4})
    shift_B2GG = draw_changes(500, (64, 64), params, generator()).elastic_BAG
    assert shift_B2GG is not None
    assert shift_B2GG.shape == (500, 2, 4, 4)
    assert shift_B2GG.std().item() == pytest.approx(3.0, rel=0.02)


def test_a_centre_crop_keeps_its_share_of_the_middle() -> None:
    made = changed(COLUMNS_1CHW, crop_BP=torch.tensor([[0.5, 0.0, 0.0]]))
    # Pixel c lies (c - 20) / 2 from the middle.
    torch.testing.assert_close(made[0, 0, 7], 0.5 + (torch.arange(41.0) - 20) / 2 / 40, atol=1e-5, rtol=0)
    drawn = draw_changes(
        200, (32, 32), STILL.model_copy(update={"crop": 0.6, "crop_at": "centre"}), generator()
    ).crop_BP
    assert drawn is not None
    assert not drawn[:, 1:].any()
    assert 0.4 <= drawn[:, 0].min() < 0.42
    assert 0.98 < drawn[:, 0].max() <= 1


def test_random_crops_lie_inside_the_image_and_reach_its_borders() -> None:
    params = STILL.model_copy(update={"crop": 0.6})
    batch_BCHW = COLUMNS_1CHW.repeat(300, 1, 1, 1)
    made_BCHW, _ = augment(batch_BCHW, NO_MASK.repeat(300, 1, 1), params, generator())
    row_BW = made_BCHW[:, 0, 20]
    assert (row_BW.diff(dim=1) >= -1e-6).all(), "nothing is mirrored in"
    crops = draw_changes(300, (41, 41), params, generator()).crop_BP
    assert crops is not None
    edges = torch.stack([crops[:, 1] - crops[:, 0], crops[:, 1] + crops[:, 0]])
    assert edges.abs().max() <= 1 + 1e-6
    assert edges.min() < -0.98
    assert edges.max() > 0.98


def test_gamma_is_an_exponent_evenly_on_a_log_scale() -> None:
    made = changed(COLUMNS_1CHW, gamma_B=torch.tensor([2.0]))
    torch.testing.assert_close(made, COLUMNS_1CHW**2)
    exponents = draw_changes(2000, (8, 8), STILL.model_copy(update={"gamma": 1.0}), generator()).gamma_B
    assert exponents is not None
    assert 0.5 <= exponents.min() < 0.51
    assert 1.98 < exponents.max() <= 2
    assert (exponents < 1).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_blur_is_a_gaussian_of_each_images_own_width() -> None:
    point = torch.zeros(3, 1, 41, 41)
    point[:, :, 20, 20] = 1.0
    made = changed(point, blur_B=torch.tensor([1.0, 0.0, 2.0]))
    for at, sigma in ((0, 1.0), (2, 2.0)):
        line = torch.exp(-((torch.arange(41.0) - 20) ** 2) / (2 * sigma**2))
        line[(torch.arange(41) - 20).abs() > 3 * sigma] = 0
        torch.testing.assert_close(made[at, 0], torch.outer(line, line) / line.sum() ** 2, atol=1e-6, rtol=0)
        assert torch.equal(made[at : at + 1], changed(point[:1], blur_B=torch.tensor([sigma])))
    assert torch.equal(made[1], point[1])
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(changed(flat, blur_B=torch.tensor([3.0])), flat)


def test_noise_has_its_deviation_and_each_image_its_own() -> None:
    grey = torch.full((2, 3, 64, 64), 0.5)
    seeds = torch.tensor([5, 6])
    made = changed(grey, noise_B=torch.tensor([0.1, 0.1]), seed_B=seeds)
    assert (made - 0.5).std().item() == pytest.approx(0.1, rel=0.02)
    assert (made - 0.5).mean().item() == pytest.approx(0, abs=2e-3)
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0, 0], made[0, 1]), "channels have their own"
    assert torch.equal(made, changed(grey, noise_B=torch.tensor([0.1, 0.1]), seed_B=seeds))


def test_salt_and_pepper_are_a_share_of_the_pixels_half_of_it_each() -> None:
    grey = torch.full((1, 3, 200, 200), 0.5)
    made = changed(grey, salt_pepper_B=torch.tensor([0.2]), seed_B=torch.tensor([5]))
    assert torch.equal(made[:, 0], made[:, 1])
    shares = [float((made == value).float().mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.1, 0.8, 0.1], abs=0.01)


def test_stains_change_by_their_own_amounts() -> None:
    haematoxylin, eosin = (
        torch.nn.functional.normalize(torch.tensor(one), dim=0) for one in ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11])
    )
    amount = torch.rand(8, 8, generator=generator(1))
    tissue = torch.exp(-amount * eosin.view(3, 1, 1))[None]

    def restained(stain: int, factor: float, added: float) -> Tensor:
        stain_B32 = torch.zeros(1, 3, 2)
        stain_B32[0, stain] = torch.tensor([factor, added])
        return changed(tissue, stain_B32=stain_B32)

    torch.testing.assert_close(restained(1, 0.2, 0.0), torch.exp(-1.2 * amount * eosin.view(3, 1, 1))[None])
    torch.testing.assert_close(restained(0, 0.2, 0.0), tissue, atol=1e-5, rtol=0)
    expected = torch.exp(-amount * eosin.view(3, 1, 1) - 0.3 * haematoxylin.view(3, 1, 1))[None]
    torch.testing.assert_close(restained(0, 0.0, 0.3), expected, atol=1e-5, rtol=0)


def test_stain_needs_colour_and_foreground_images_whole_ones() -> None:
    model = {"architecture": "unet"}
    for sections, expected in (
        ({"input": {"channels": 1}, "recipe": {"augment": {"stain": 0.1}}}, "input.channels is 1"),
        ({"input": {"resize": "none"}, "recipe": {"foreground_images": 0.5}}, "set foreground_patches"),
    ):
        with pytest.raises(ValueError, match=expected):
            CandidateParams.model_validate({"model": model, **sections})
