"""A mask is known by its contrast and edges: shifted, swapped and turned masks are found, sound ones and noise pass."""

from __future__ import annotations

import numpy as np
import pytest

from segops.data.mask_fit import TURNS, Fit, fits, image_maps, mask_maps, turned

SIDE_PX = 64
Pair = tuple[np.ndarray, np.ndarray]


def squares(count: int, *, contrast: float = 100, noise: float = 10, seed: int = 0) -> list[Pair]:
    """Images HWC with three squares of their own on noise, and their masks."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        mask_HW = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        for top, left in random.integers(0, SIDE_PX - 12, (3, 2)):
            mask_HW[top : top + 12, left : left + 12] = 1
        image_HW = 80 + contrast * mask_HW.astype(float) + random.normal(0, noise, mask_HW.shape)
        pairs.append((np.clip(image_HW, 0, 255).astype(np.uint8)[..., None], mask_HW))
    return pairs


def judged(images: list[np.ndarray], masks: list[np.ndarray], classes: int = 2) -> list[Fit]:
    return fits([image_maps(image) for image in images], [mask_maps(mask, classes) for mask in masks])


def parts(pairs: list[Pair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [image for image, _ in pairs], [mask for _, mask in pairs]


@pytest.mark.parametrize("contrast", [100, -40])  # objects brighter or darker than the background
def test_an_own_mask_fits_better_than_all_others(contrast: float) -> None:
    found = judged(*parts(squares(12, contrast=contrast)))
    assert found == [Fit(beaten=1.0)] * 12


@pytest.mark.parametrize("step", [1, -1, 5])
def test_masks_shifted_by_files_are_traced_to_their_images(step: int) -> None:
    images, masks = parts(squares(12))
    found = judged(images, [masks[(number + step) % 12] for number in range(12)])
    assert [fit.better_mask for fit in found] == [(number - step) % 12 for number in range(12)]


def test_a_shift_in_a_part_of_the_files_and_a_swap_of_two_are_found() -> None:
    images, masks = parts(squares(12))
    order = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 6]
    found = judged(images, [masks[number] for number in order])
    assert [fit.better_mask for fit in found] == [None] * 6 + [11, 6, 7, 8, 9, 10]
    masks[2], masks[9] = masks[9], masks[2]
    assert {number: fit.better_mask for number, fit in enumerate(judged(images, masks)) if fit.better_mask} == {
        2: 9,
        9: 2,
    }


def test_a_shift_shows_in_many_images_together_where_none_shows_it_alone() -> None:
    images, masks = parts(squares(60, contrast=20, noise=60))
    found = judged(images, masks[-1:] + masks[:-1])
    moved = [number for number, fit in enumerate(found) if fit.better_mask == number + 1]
    assert len(moved) > 30
    assert np.mean([fit.better_mask is None for fit in judged(images, masks)]) == 1


def test_a_shift_shows_between_neighbours_that_are_nearly_alike() -> None:
    random = np.random.default_rng(0)
    masks = []
    for frame in range(30):  # a square that moves down by a pixel in every second frame
        mask_HW = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask_HW[10 + frame // 2 : 26 + frame // 2, 8:24] = 1
        masks.append(mask_HW)
    images = [(100.0 * mask + random.normal(0, 10, mask.shape))[..., None] for mask in masks]
    assert all(fit.better_mask is None for fit in judged(images, masks))
    moved = [
        number for number, fit in enumerate(judged(images, masks[1:] + masks[-1:])) if fit.better_mask == number - 1
    ]
    assert moved == list(range(1, 28, 2))  # where the neighbour's mask differs


@pytest.mark.parametrize("number", range(1, 8))
def test_turned_masks_are_told_with_the_turn_that_mends_them(number: int) -> None:
    images, masks = parts(squares(10))
    found = judged(images, [turned(mask, number) for mask in masks])
    back = {1: 3, 3: 1}.get(number, number)  # the others undo themselves
    assert [fit.turn for fit in found] == [back] * 10
    assert TURNS[back - 1]


def test_turns_do_what_their_names_say() -> None:
    mask = np.array([[1, 2], [3, 4]])
    expected = {
        "turned by 90 degrees to the left": [[2, 4], [1, 3]],
        "turned by 180 degrees": [[4, 3], [2, 1]],
        "turned by 90 degrees to the right": [[3, 1], [4, 2]],
        "flipped left to right": [[2, 1], [4, 3]],
        "transposed": [[1, 3], [2, 4]],
        "flipped top to bottom": [[3, 4], [1, 2]],
        "transposed across the other diagonal": [[4, 2], [3, 1]],
    }
    assert {name: turned(mask, number).tolist() for number, name in enumerate(TURNS, start=1)} == expected
    assert turned(mask, 0).tolist() == mask.tolist()


@pytest.mark.parametrize("smooth", [0, 4])
def test_masks_of_images_without_a_signal_are_beaten_half_of_the_time_and_none_is_misplaced(smooth: int) -> None:
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(3)
    images = [gaussian_filter(random.normal(size=(SIDE_PX, SIDE_PX)), smooth)[..., None] for _ in range(30)]
    found = judged(images, parts(squares(30))[1])
    assert 0.35 < np.mean([fit.beaten for fit in found]) < 0.65
    assert all(fit.better_mask is None and fit.turn == 0 for fit in found)


def test_images_of_several_sizes_channels_and_classes_are_compared() -> None:
    pairs = squares(12)
    larger = [
        (np.kron(image, np.ones((3, 2, 1), np.uint8)), np.kron(mask, np.ones((3, 2), np.uint8)))
        for image, mask in pairs
    ]
    images, masks = parts([*larger[:6], *pairs[6:]])
    images = [np.concatenate([np.zeros_like(image), image.astype(np.float32)], axis=-1) for image in images]
    rings = [mask + (mask > 0) * (np.arange(mask.shape[1]) % 2 == 0).astype(np.uint8) for mask in masks]
    assert judged(images, rings, classes=3) == [Fit(1.0)] * 12
    assert [fit.better_mask for fit in judged(images, rings[1:] + rings[:1], classes=3)] == [11, *range(11)]
