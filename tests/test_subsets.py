"""Derived arrays and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segops.data.arrays import PreparedData
from segops.input_params import InputParams
from segops.training.resized import cache_key, resized_subsets
from segops.training.subsets import batches
from tests.tiny_prepared import SUBSETS, disc, write_prepared

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
