"""Object maps, with answers by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.data.objects import HIDDEN, OVERLAP, PIECES, merge_objects, number_objects, objects_in_files
from segops.data.read_changes import ChangeLog
from segops.errors import UserError


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def told(changes: ChangeLog) -> dict[str, dict[str, int]]:
    return {entry.change: entry.named for entry in changes.entries()}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ids_of_any_width_are_numbered_in_their_order(dtype: str) -> None:
    large = np.iinfo(dtype).max
    ids_HW = np.array([[0, 7, 7, large], [3, 3, 0, large]], dtype)
    changes = ChangeLog()
    objects_HW = number_objects(ids_HW, "a.tif", changes)
    np.testing.assert_array_equal(objects_HW, [[0, 2, 2, 3], [1, 1, 0, 3]])
    assert objects_HW.dtype == np.uint16
    assert told(changes) == {}


def test_more_objects_than_16_bits_count_get_32() -> None:
    ids_HW = np.arange(70_000).reshape(100, 700)
    objects_HW = number_objects(ids_HW, "a.tif", ChangeLog())
    assert objects_HW.dtype == np.uint32
    np.testing.assert_array_equal(objects_HW, ids_HW)


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 40, 10**6]), st.sampled_from(["uint8", "int64", "uint64"]))
def test_few_and_many_ids_are_numbered_alike(seed: int, largest: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    ids_HW = random.integers(random.integers(2), min(largest, 255 if dtype == "uint8" else largest), (6, 7)).astype(
        dtype
    )
    ranks = {value: rank for rank, value in enumerate(sorted({*ids_HW.ravel().tolist()} - {0}), start=1)} | {0: 0}
    expected = [[ranks[value] for value in row] for row in ids_HW.tolist()]
    np.testing.assert_array_equal(number_objects(ids_HW, "a", ChangeLog()), expected)


def test_a_mask_without_background_or_without_objects() -> None:
    np.testing.assert_array_equal(number_objects(np.array([[5, 9]]), "a.tif", ChangeLog()), [[1, 2]])
    np.testing.assert_array_equal(number_objects(np.zeros((1, 2), np.int64), "a.tif", ChangeLog()), [[0, 0]])


def test_a_negative_id_is_refused() -> None:
    with pytest.raises(UserError, match=r"^a\.tif: object id -1; ids are whole numbers from 1 on"):
        number_objects(np.array([[0, -1, 4]]), "a.tif", ChangeLog())


def test_an_object_of_several_pieces_is_kept_as_one_and_noted() -> None:
    changes = ChangeLog()
    # Object 1 has pieces of 3, 1 and 1 pixels; object 2 is in one piece by a corner.
    ids_HW = np.array([[1, 1, 0, 1, 0, 2], [1, 0, 0, 0, 2, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(number_objects(ids_HW, "a.tif", changes), ids_HW)
    assert told(changes) == {PIECES: {"a.tif": 2}}


def test_masks_of_objects_that_touch_stay_apart_and_empty_ones_are_no_objects() -> None:
    changes = ChangeLog()
    masks = [("l", row(1, 1, 0, 0)), ("e", row(0, 0, 0, 0)), ("r", row(0, 0, 2, 2))]
    mask_HW, objects_HW = merge_objects(masks, "a.png", changes)
    np.testing.assert_array_equal(mask_HW, [[1, 1, 2, 2]])
    np.testing.assert_array_equal(objects_HW, [[1, 1, 2, 2]])
    assert [mask_HW.dtype.name, objects_HW.dtype.name] == ["uint8", "uint16"]
    assert told(changes) == {}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_overlapping_objects_the_smaller_keeps_the_pixels(order: tuple[int, int]) -> None:
    large, small = row(1, 1, 1, 1, 0), row(0, 0, 0, 1, 1)
    masks = [(name, mask) for name, mask in (("large", large), ("small", small))]
    changes = ChangeLog()
    _, objects_HW = merge_objects([masks[place] for place in order], "a.png", changes)
    first, second = (1, 2) if order == (0, 1) else (2, 1)
    np.testing.assert_array_equal(objects_HW, [[first, first, first, second, second]])
    assert told(changes) == {OVERLAP: {"a.png": 1}}


def test_of_overlapping_objects_of_two_classes_the_higher_class_keeps_the_pixels() -> None:
    masks = [("nucleus", row(0, 2, 2, 2)), ("cell", row(1, 1, 0, 0))]
    mask_HW, objects_HW = merge_objects(masks, "a.png", ChangeLog())
    np.testing.assert_array_equal(mask_HW, [[1, 2, 2, 2]])
    np.testing.assert_array_equal(objects_HW, [[2, 1, 1, 1]])


def test_an_object_saved_twice_is_kept_once_and_said() -> None:
    changes = ChangeLog()
    masks = [("1.png", row(1, 1, 0)), ("2.png", row(1, 1, 0)), ("3.png", row(0, 0, 1))]
    _, objects_HW = merge_objects(masks, "a.png", changes)
    np.testing.assert_array_equal(objects_HW, [[1, 1, 2]])
    assert told(changes) == {OVERLAP: {"a.png": 2}, HIDDEN: {"2.png": 2}}


def test_masks_of_different_sizes_for_one_image_are_an_error() -> None:
    sizes = [("m/1.png", np.zeros((4, 5), np.uint8)), ("m/2.png", np.zeros((5, 4), np.uint8))]
    with pytest.raises(UserError, match=r"m/2.png: 5x4 pixels, but the masks of a.png before it have 4x5"):
        merge_objects(sizes, "a.png", ChangeLog())


def test_each_id_of_each_file_is_an_object() -> None:
    files = [("1.png", row(4, 4, 2, 0, 0, 0)), ("2.png", row(0, 0, 0, 4, 0, 0)), ("3.png", row(0, 0, 0, 0, 0, 0))]
    mask_HW, objects_HW = merge_objects(objects_in_files(files), "a.png", ChangeLog())
    np.testing.assert_array_equal(objects_HW, [[2, 2, 1, 3, 0, 0]])
    np.testing.assert_array_equal(mask_HW, objects_HW > 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_every_pixel_belongs_to_the_smallest_object_of_the_highest_class_there(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    masks_NHW = (random.random((count, 5, 6)) < random.random((count, 1, 1))) * random.integers(1, 4, (count, 1, 1))
    mask_HW, objects_HW = merge_objects([(str(n), mask) for n, mask in enumerate(masks_NHW)], "a", ChangeLog())
    np.testing.assert_array_equal(mask_HW, masks_NHW.max(axis=0))
    areas = np.count_nonzero(masks_NHW, axis=(1, 2))
    owner = {}
    for place in np.argwhere(mask_HW):
        there = [n for n in range(count) if masks_NHW[n][tuple(place)]]
        owner[tuple(place)] = min(there, key=lambda n: (-masks_NHW[n].max(), areas[n], n))
    numbers = {n: number for number, n in enumerate(sorted(set(owner.values())), start=1)}
    for place in np.argwhere(mask_HW):
        assert objects_HW[tuple(place)] == numbers[owner[tuple(place)]]
    assert not objects_HW[mask_HW == 0].any()
