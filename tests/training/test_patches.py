"""Random patches of native pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segops.data.arrays import PreparedData
from segops.params.candidate import CandidateParams
from segops.training.batches.patches import NativeSubset, Patch, PatchSubset
from segops.training.batches.subsets import batches, open_subsets
from tests.support.tiny_prepared import write_prepared
from tests.training.test_train import RESUNET, run

CPU = torch.device("cpu")


def native(size: Any = 32, channels: int = 3, **recipe: Any) -> CandidateParams:
    quick = {"epochs": 3, "batch_size": 4, "loss": {"name": "bce"}, "learning_rate": 0.01, "patches_per_image": 2}
    quick |= {"precision": "fp32"}
    given = {"size": size, "channels": channels, "resize": "none"}
    return CandidateParams.model_validate({"model": RESUNET, "input": given, "recipe": quick | recipe})


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return PreparedData.open(write_prepared(tmp_path / "prepared", classes=3))


def drawn(subset: PatchSubset, seed: int = 0) -> list[Patch]:
    generator = torch.Generator().manual_seed(seed)
    return [patch for rows in batches(len(subset), 4, generator) for patch in subset.draw(rows, generator)]


def test_an_epoch_has_so_many_patches_of_each_training_image_and_none_of_others(data: PreparedData) -> None:
    subset = PatchSubset(data, native(patches_per_image=3))
    patches = drawn(subset)
    assert len(subset) == len(patches) == 30
    assert sorted({patch.row for patch in patches}) == data.rows("train")
    assert all(sum(patch.row == row for patch in patches) == 3 for row in data.rows("train"))


def test_patches_are_the_images_pixels_where_they_say(data: PreparedData) -> None:
    subset = PatchSubset(data, native(size=[32, 40]))
    patches = drawn(subset)
    image_BChw, mask_Bhw = subset.batch(patches, CPU)
    for patch, image_Chw, mask_hw in zip(patches, image_BChw, mask_Bhw, strict=True):
        top, left = patch.corner
        inside = (slice(top, top + 32), slice(left, left + 40))
        np.testing.assert_array_equal(mask_hw.numpy(), data.mask(patch.row)[inside])
        np.testing.assert_allclose(image_Chw.permute(1, 2, 0).numpy(), data.image(patch.row)[inside] / 255, rtol=1e-6)


def test_a_patch_larger_than_the_image_has_black_below_and_to_the_right(data: PreparedData) -> None:
    subset = PatchSubset(data, native(size=64, channels=1))
    image_BChw, mask_Bhw = subset.batch([Patch(0, (0, 0))], CPU)  # 40 x 40
    assert image_BChw.shape == (1, 1, 64, 64)
    assert image_BChw[0, 0, :40, :40].min() > 0
    assert not image_BChw[0, 0, 40:].any()
    assert not image_BChw[0, 0, :, 40:].any()
    assert mask_Bhw.sum() == int(data.mask(0).sum())
    assert all(patch.corner == (0, 0) for patch in drawn(subset))


def test_places_spread_over_the_image_and_foreground_is_met_as_often_as_asked(data: PreparedData) -> None:
    def centres_in_foreground(share: float) -> float:
        subset = PatchSubset(data, native(foreground_patches=share, patches_per_image=60))
        patches = [patch for patch in drawn(subset) if data.mask(patch.row).shape == (36, 48)]
        corners = {patch.corner for patch in patches}
        assert max(top for top, _ in corners) == 4
        assert max(left for _, left in corners) == 16
        middles = [data.mask(patch.row)[patch.corner[0] + 16, patch.corner[1] + 16] > 0 for patch in patches]
        return float(np.mean(middles))

    seldom, always = centres_in_foreground(0.0), centres_in_foreground(1.0)
    assert always > seldom + 0.15  # clipping at the border moves some centres off


def test_classes_of_an_image_are_met_alike_however_small(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared", classes=3))
    mask_HW = np.zeros((40, 40), np.uint8)
    mask_HW[:20] = 1
    mask_HW[30, 30] = 2
    data.mask = lambda row: mask_HW if row == 0 else np.zeros((40, 40), np.uint8)  # type: ignore[method-assign]
    subset = PatchSubset(data, native(foreground_patches=1.0, patches_per_image=200))
    tops = [patch.corner[0] for patch in drawn(subset) if patch.row == 0]
    about_two = sum(top == 8 for top in tops)  # 30 - 16, held to the last place of 40 - 32
    assert 70 < about_two < 130
    assert subset.draw([399], torch.Generator())[0].row == 1  # no foreground: anywhere


def test_a_seed_gives_the_same_patches_in_any_process(data: PreparedData, tmp_path: Path) -> None:
    again = PreparedData.open(tmp_path / "prepared")
    first, same, other = (drawn(PatchSubset(one, native()), seed) for one, seed in ((data, 1), (again, 1), (data, 2)))
    assert first == same != other


def test_validation_sees_whole_images(data: PreparedData) -> None:
    subsets = open_subsets(data, native(), Path("nowhere"), device=CPU)
    assert isinstance(subsets.val, NativeSubset)
    assert subsets.val_batch_size == 1
    for i, row in enumerate(data.rows("val")):
        image_1CHW, mask_1HW = subsets.val.batch([i], CPU)
        assert image_1CHW.shape == (1, 3, *data.mask(row).shape)
        np.testing.assert_array_equal(mask_1HW[0].numpy(), data.mask(row))


@pytest.mark.slow
def test_discs_are_learnt_from_patches_and_validated_in_windows(tmp_path: Path) -> None:
    params = native(epochs=10, patches_per_image=4)
    fitted = run(params, tmp_path)  # images of 40 x 40 and 36 x 48 in windows of 32 x 32
    assert fitted.history[fitted.best_epoch - 1]["val_dice"] > 0.85
    again = run(params, tmp_path, "again")
    assert fitted.history == again.history


def test_whole_image_normalization_is_refused_for_patches() -> None:
    with pytest.raises(ValueError, match="normalize zscore needs whole images"):
        CandidateParams.model_validate({"model": RESUNET, "input": {"resize": "none", "normalize": "zscore"}})
