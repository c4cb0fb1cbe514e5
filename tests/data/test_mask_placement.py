"""Masks beside their objects, and masks with foreground and background swapped."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from segops.data.mask_placement import Agreement, looks_swapped, offset, places


def discs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy images HWC of two discs, and their masks."""
    random = np.random.default_rng(0)
    y, x = np.ogrid[:96, :80]
    pairs = []
    for _ in range(count):
        centres = random.integers(20, 60, (2, 2))
        mask_HW = np.any([np.hypot(y - row, x - column) < 9 for row, column in centres], axis=0).astype(np.uint8)
        pairs.append(((80 * mask_HW + random.integers(0, 40, mask_HW.shape)).astype(np.uint8)[..., None], mask_HW))
    return pairs


def agreements(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[Agreement]:
    found = [places(image, mask) for image, mask in pairs]
    return [agreement for agreement in found if agreement is not None]


@pytest.mark.parametrize(
    ("down", "right", "words"), [(0, 7, "7 px right"), (-4, 0, "4 px up"), (5, -6, "6 px left, 5 px down")]
)
def test_masks_that_lie_off_are_measured(down: int, right: int, words: str) -> None:
    moved = offset(agreements((image, np.roll(mask, (down, right), (0, 1))) for image, mask in discs(12)))
    assert moved is not None
    assert moved == (right, down)
    assert moved.words() == words


def test_masks_in_place_and_a_pixel_beside_it_have_no_offset() -> None:
    assert offset(agreements((image, mask) for image, mask in discs(12))) is None
    assert offset(agreements((image, np.roll(mask, 1, 0)) for image, mask in discs(12))) is None


def test_images_without_a_signal_or_too_few_have_no_offset() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (12, 96, 80, 1), np.uint8)
    assert offset(agreements((image, mask) for image, (_, mask) in zip(noise, discs(12), strict=True))) is None
    assert offset(agreements((image, np.roll(mask, 7, 1)) for image, mask in discs(4))) is None


def test_a_mask_without_a_border_has_no_place() -> None:
    assert places(np.zeros((32, 32, 1), np.uint8), np.ones((32, 32), np.uint8)) is None


def test_objects_in_a_background_arent_swapped_and_their_inverse_is() -> None:
    for _, mask in discs(5):
        assert not looks_swapped(mask)
        assert looks_swapped(1 - mask)


def test_a_network_and_a_half_arent_swapped() -> None:
    network = np.zeros((60, 60), np.uint8)
    network[::12] = network[:, ::12] = 1  # membranes around cells: less than half
    half = np.zeros((60, 60), np.uint8)
    half[:, :40] = 1
    cells = 1 - network  # cells between membranes that reach the edge
    assert not looks_swapped(network)
    assert not looks_swapped(half)
    assert not looks_swapped(cells)
    assert not looks_swapped(np.ones((60, 60), np.uint8))
