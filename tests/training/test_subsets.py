"""Derived arrays and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segops.data.arrays import PreparedData
from segops.params.candidate import CandidateParams
from segops.params.input import InputParams
from segops.training.batches.object_maps import BORDER, border_map
from segops.training.batches.patches import Patch
from segops.training.batches.resized import cache_key, resized_subsets
from segops.training.batches.subsets import batches, open_subsets
from tests.support.tiny_prepared import SUBSETS, disc, write_prepared

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return PreparedData.open(write_prepared(tmp_path / "prepared"))


def test_images_keep_their_pixels_where_their_size_is_the_candidates(data: PreparedData, tmp_path: Path) -> None:
    train = resized_subsets(data, InputParams(size=(40, 40)), tmp_path / "cache")["train"]
    image_BCHW, mask_BHW = train.batch([0, 2], CPU)
    for row, number in enumerate((0, 2)):  # even numbers are 40 x 40
        image_HWC, mask_HW = disc((40, 40), 3, seed=number)
        np.testing.assert_array_equal(mask_BHW[row].numpy(), mask_HW)
        np.testing.assert_allclose(image_BCHW[row].permute(1, 2, 0).numpy(), image_HWC / 255, rtol=1e-6)
    assert image_BCHW.dtype == torch.float32
    assert image_BCHW.is_contiguous(memory_format=torch.channels_last)
    assert mask_BHW.dtype == torch.uint8


def test_train_and_val_are_derived_and_test_is_not(data: PreparedData, tmp_path: Path) -> None:
    seen = []
    read = data.image
    data.image = lambda row: (seen.append(row), read(row))[1]  # type: ignore[method-assign,func-returns-value]
    subsets = resized_subsets(data, InputParams(size=(32, 64), channels=1), tmp_path / "cache")
    assert sorted(seen) == [row for row, subset in enumerate(SUBSETS) if subset != "test"]
    assert {name: subset.images.shape for name, subset in subsets.items()} == {
        "train": (10, 32, 64, 1),
        "val": (4, 32, 64, 1),
    }


def test_padding_leaves_black_borders_and_background(data: PreparedData, tmp_path: Path) -> None:
    subset = resized_subsets(data, InputParams(size=(48, 48), resize="pad"), tmp_path / "cache")["train"]
    image_BCHW, mask_BHW = subset.batch([1], CPU)  # 36 x 48: six black rows above and below
    outside = torch.cat([image_BCHW[0, :, :6], image_BCHW[0, :, -6:]], dim=1)
    assert not outside.any()
    assert image_BCHW[0, :, 6:-6].min() > 0.1
    assert int(mask_BHW.sum()) == int(data.mask(1).sum())


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    deep = PreparedData.open(write_prepared(tmp_path / "prepared", dtype="uint16", channels=1))
    subset = resized_subsets(deep, InputParams(size=(40, 40), channels=1), tmp_path / "cache")["train"]
    assert subset.images.dtype == np.uint16
    image_BCHW, _ = subset.batch([0], CPU)
    np.testing.assert_allclose(image_BCHW[0, 0].numpy(), deep.image(0)[..., 0] / 65535, rtol=1e-6)


def test_the_cache_is_read_again_and_a_cut_off_file_derived_anew(data: PreparedData, tmp_path: Path) -> None:
    cache, params = tmp_path / "cache", InputParams(size=(32, 32))
    first = resized_subsets(data, params, cache)["train"].batch([0, 1, 2], CPU)[0]
    read = data.image
    data.image = lambda row: pytest.fail("derived twice")  # type: ignore[method-assign]
    again = resized_subsets(data, params, cache)["train"].batch([0, 1, 2], CPU)[0]
    assert torch.equal(first, again)
    data.image = read  # type: ignore[method-assign]
    path = cache / cache_key(data, params) / "train.images.npy"
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(first, resized_subsets(data, params, cache)["train"].batch([0, 1, 2], CPU)[0])


def test_the_cache_key_ignores_what_acts_on_batches_alone(data: PreparedData) -> None:
    unit, zscore = (cache_key(data, InputParams(size=(32, 32), normalize=how)) for how in ("unit", "zscore"))
    assert unit == zscore
    others = [
        InputParams(size=(32, 64)),
        InputParams(size=(32, 32), channels=1),
        InputParams(size=(32, 32), resize="pad"),
    ]
    assert len({unit, *(cache_key(data, params) for params in others)}) == 4


def test_a_share_of_the_images_is_drawn_among_those_of_each_class(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared", classes=3))
    empty, only_two = np.zeros((40, 40), np.uint8), np.full((40, 40), 2, np.uint8)
    given = {0: only_two, 1: np.ones((40, 40), np.uint8), 2: np.ones((40, 40), np.uint8)}
    data.mask = lambda row: given.get(row, empty)  # type: ignore[method-assign]
    train = resized_subsets(data, InputParams(size=(40, 40)), tmp_path / "cache")["train"]
    rows = [9] * 4000
    assert train.draw(rows, torch.Generator()) == rows
    train.foreground_images = 0.6
    drawn = np.array(train.draw(rows, torch.Generator().manual_seed(0)))
    shares = [float(np.mean(drawn == row)) for row in (9, 0, 1, 2)]
    assert shares == pytest.approx([0.4, 0.3, 0.15, 0.15], abs=0.03)  # class 2 has one image, class 1 has two
    again = train.draw(rows, torch.Generator().manual_seed(0))
    assert again == drawn.tolist()
    np.testing.assert_array_equal(train.class_pixels(3), [7 * 1600, 2 * 1600, 1600])


def test_without_foreground_every_image_is_drawn_as_it_comes(data: PreparedData, tmp_path: Path) -> None:
    data.mask = lambda row: np.zeros((40, 40), np.uint8)  # type: ignore[method-assign]
    train = resized_subsets(data, InputParams(size=(40, 40)), tmp_path / "cache")["train"]
    train.foreground_images = 1.0
    assert train.draw([3, 1, 2], torch.Generator()) == [3, 1, 2]


def boundary(size: Any, resize: str) -> CandidateParams:
    return CandidateParams.model_validate(
        {
            "model": {"architecture": "unet"},
            "input": {"size": size, "resize": resize},
            "recipe": {"loss": {"name": "boundary_bce", "sigma_px": 3.0}, "foreground_patches": 0.0},
        }
    )


def two_discs(height: int, width: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    mask_HW = np.zeros((height, width), np.uint8)
    for centre in (10, 26):
        mask_HW[(y - 15) ** 2 + (x - centre) ** 2 <= 36] = 1
    return mask_HW


def test_border_maps_are_derived_once_at_the_size_that_the_network_sees(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mask = lambda row: two_discs(36 if row % 2 else 40, 48 if row % 2 else 40)  # type: ignore[method-assign]
    cache, params = tmp_path / "cache", boundary([40, 40], "stretch")
    first = open_subsets(data, params, cache, device=CPU)
    monkeypatch.setattr("segops.training.batches.object_maps.border_map", lambda *_: pytest.fail("derived twice"))
    again = open_subsets(data, params, cache, device=CPU)
    for subsets in (first, again):
        border_BHW = subsets.train.further([0, 1], CPU)[BORDER]
        assert border_BHW.shape == (2, 40, 40)
        assert border_BHW.dtype == torch.float32
        np.testing.assert_array_equal(border_BHW[0].numpy(), border_map(two_discs(40, 40), 3.0))
        assert border_BHW[0, 15, 18] > 0.1 > border_BHW[0, 38, 38]
        assert subsets.val.further([1], CPU)[BORDER].shape == (1, 40, 40)


def test_border_maps_of_native_pixels_are_cut_where_the_patches_are(data: PreparedData, tmp_path: Path) -> None:
    data.mask = lambda row: two_discs(36 if row % 2 else 40, 48 if row % 2 else 40)  # type: ignore[method-assign]
    subsets = open_subsets(data, boundary([32, 44], "none"), tmp_path / "cache", device=CPU)
    border_Bhw = subsets.train.further([Patch(1, (3, 4)), Patch(4, (8, 0))], CPU)[BORDER]
    np.testing.assert_array_equal(border_Bhw[0].numpy(), border_map(two_discs(36, 48), 3.0)[3:35, 4:48])
    np.testing.assert_array_equal(border_Bhw[1, :, :40].numpy(), border_map(two_discs(40, 40), 3.0)[8:40])
    assert not border_Bhw[1, :, 40:].any()
    for at, row in enumerate(data.rows("val")):
        expected_HW = border_map(data.mask(row), 3.0)
        np.testing.assert_array_equal(subsets.val.further([at], CPU)[BORDER][0].numpy(), expected_HW)


@given(count=st.integers(1, 40), size=st.integers(1, 12), seed=st.none() | st.integers(0, 5))
def test_batches_hold_every_row_once(count: int, size: int, seed: int | None) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    made = list(batches(count, size, generator))
    assert sorted(row for rows in made for row in rows) == list(range(count))
    assert [len(rows) for rows in made[:-1]] == [size] * (len(made) - 1)
    assert 1 <= len(made[-1]) <= size


def test_order_follows_the_generator() -> None:
    orders = [list(batches(50, 7, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert list(batches(5, 2)) == [[0, 1], [2, 3], [4]]
