"""From probabilities to a mask: Otsu's threshold, and each step of cleaning on shapes whose outcome is seen by eye."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.inference.cleaning import clean_mask, foreground_of, mask_of, otsu
from segops.params.inference import CleaningParams

Mask = npt.NDArray[Any]


def drawn(text: str) -> Mask:
    """A mask from lines of digits; a dot is 0."""
    return np.array([[int(one.replace(".", "0")) for one in line.strip()] for line in text.split()], np.uint8)


def cleaned(mask: Mask, **given: Any) -> Mask:
    return clean_mask(mask, CleaningParams(**given))


BAR_AND_SPECK = drawn(
    """
    .........
    .11111...
    .11111...
    .11111.1.
    .11111...
    .11111...
    .........
    """
)


def test_nothing_asked_changes_nothing() -> None:
    assert np.array_equal(cleaned(BAR_AND_SPECK), BAR_AND_SPECK)


def test_objects_of_at_most_so_many_pixels_are_removed() -> None:
    without = BAR_AND_SPECK.copy()
    without[3, 7] = 0
    assert np.array_equal(cleaned(BAR_AND_SPECK, remove_small_px=1), without)
    assert np.array_equal(cleaned(BAR_AND_SPECK, remove_small_px=24), without)
    assert not cleaned(BAR_AND_SPECK, remove_small_px=25).any()


def test_holes_of_at_most_so_many_pixels_are_filled_and_bays_are_not() -> None:
    ring = drawn("..... .1111 .1..1 .1111 .1.1. .....")
    assert np.array_equal(cleaned(ring, fill_holes_px=2), drawn("..... .1111 .1111 .1111 .1.1. ....."))
    assert np.array_equal(cleaned(ring, fill_holes_px=1), ring)


def test_opening_removes_what_the_disc_does_not_fit_into() -> None:
    # The disc of radius 1 is a plus: the square loses its corners, the speck goes.
    expected = BAR_AND_SPECK.copy()
    expected[3, 7] = expected[1, 1] = expected[1, 5] = expected[5, 1] = expected[5, 5] = 0
    assert np.array_equal(cleaned(BAR_AND_SPECK, open_px=1), expected)
    assert not cleaned(BAR_AND_SPECK, open_px=3).any()


def test_opening_takes_nothing_from_what_the_images_edge_cuts() -> None:
    half = np.zeros((6, 6), np.uint8)
    half[:, :2] = 1
    assert np.array_equal(cleaned(half, open_px=4), half)
    assert np.array_equal(cleaned(np.ones((5, 5), np.uint8), open_px=2), np.ones((5, 5)))


def test_closing_bridges_a_gap_and_does_not_grow_to_the_edge() -> None:
    gap = np.zeros((9, 15), np.uint8)
    gap[1:8, 1:7] = gap[1:8, 8:14] = 1
    closed = cleaned(gap, close_px=2)
    assert closed[2:7, 7].all()
    assert not closed[:, 0].any()
    assert not closed[0].any()
    assert not cleaned(np.zeros((5, 5), np.uint8), close_px=3).any()


def test_the_largest_object_alone_stays_and_of_equal_ones_the_first() -> None:
    assert np.array_equal(cleaned(drawn("1.22 1.22"), largest_only=True), drawn("1.22 1.22"))  # one of each class
    assert np.array_equal(cleaned(drawn("1.11 ..11"), largest_only=True), drawn("..11 ..11"))
    assert np.array_equal(cleaned(drawn("1.1. ...."), largest_only=True), drawn("1... ...."))
    assert np.array_equal(cleaned(drawn("1. .1"), largest_only=True), drawn("1. .."))  # corners don't join


def test_holes_are_filled_before_small_objects_go_and_the_largest_is_taken_last() -> None:
    # 8 pixels around a hole make 9 with it filled; the bar has 8.
    both = drawn(".......... .111..1111 .1.1..1111 .111...... ..........")
    assert cleaned(both, fill_holes_px=1, remove_small_px=8).sum() == 9
    assert cleaned(both, fill_holes_px=1, largest_only=True)[2, 2] == 1
    assert cleaned(both, remove_small_px=8).sum() == 0


def test_a_class_grows_over_background_alone() -> None:
    # A ring of class 1 about a pixel of class 2 and a hole: only the hole is filled, by the first class.
    ring = drawn("11111 12..1 11111")
    assert np.array_equal(cleaned(ring, fill_holes_px=9), drawn("11111 12111 11111"))


def test_what_a_class_loses_becomes_background() -> None:
    assert np.array_equal(cleaned(drawn("1122 1122 1121"), remove_small_px=1), drawn("1122 1122 112."))


@given(
    st.integers(0, 2**32 - 1),
    st.builds(
        CleaningParams,
        open_px=st.integers(0, 2),
        close_px=st.integers(0, 2),
        fill_holes_px=st.integers(0, 6),
        remove_small_px=st.integers(0, 6),
        largest_only=st.booleans(),
    ),
)
def test_classes_stay_classes_and_no_class_takes_anothers_pixels(seed: int, cleaning: CleaningParams) -> None:
    mask = np.random.default_rng(seed).choice(3, (11, 13), p=[0.4, 0.4, 0.2]).astype(np.uint8)
    found = clean_mask(mask, cleaning)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 1, 2}
    changed = (found != mask) & (mask > 0)
    assert not found[changed].any()
    if not (cleaning.close_px or cleaning.fill_holes_px):
        assert (found[mask == 0] == 0).all()


def test_otsu_parts_two_heaps() -> None:
    two = np.concatenate([np.full(90, 0.1), np.full(10, 0.4)]).astype(np.float32).reshape(10, 10)
    assert 0.1 < otsu(two) < 0.4
    assert mask_of(two[None], None).sum() == 10


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_otsu_of_one_value_is_a_half(value: float) -> None:
    assert otsu(np.full((3, 4), value, np.float32)) == 0.5


def test_otsu_has_the_largest_variance_between_classes() -> None:
    probability = np.random.default_rng(0).beta(0.4, 0.9, (40, 40)).astype(np.float32)
    # By definition (Otsu 1979, eq. 14), on the bins' centres.
    centre = (np.floor(probability.ravel() * 256).clip(0, 255) + 0.5) / 256
    best, chosen = 0.0, 0.0
    for cut in np.arange(1, 256) / 256:
        below, above = centre[centre < cut], centre[centre > cut]
        between = below.size * above.size * (below.mean() - above.mean()) ** 2
        if between > best:
            best, chosen = between, cut
    assert otsu(probability) == pytest.approx(chosen)


def test_where_two_classes_would_gain_a_pixel_the_first_one_does() -> None:
    ring_in_ring = drawn("11111 12221 12.21 12221 11111")  # the hole is class 2's, and with it class 1's
    assert np.array_equal(cleaned(ring_in_ring, fill_holes_px=9), drawn("11111 12221 12121 12221 11111"))
    assert np.array_equal(cleaned(ring_in_ring, fill_holes_px=1), drawn("11111 12221 12221 12221 11111"))


@pytest.mark.parametrize("threshold", [0.5, 0.1, 0.7])  # the last two are no float32
def test_foreground_is_above_the_threshold_not_at_it(threshold: float) -> None:
    at = np.float32(threshold)
    probability_1HW = np.array([[[np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(1))]]])
    assert mask_of(probability_1HW, threshold).tolist() == [[0, 0, 1]]


def test_foreground_is_the_one_channel_or_all_but_the_background() -> None:
    two = np.array([[[0.25, 0.75]]], np.float32)
    assert foreground_of(two).tolist() == [[0.25, 0.75]]
    several = np.array([[[0.5, 0.25]], [[0.25, 0.25]], [[0.25, 0.5]]], np.float32)
    assert foreground_of(several).tolist() == [[0.5, 0.75]]


def test_of_several_classes_the_likeliest_is_taken_and_of_equal_ones_the_first() -> None:
    several = np.array([[[0.5, 0.3, 0.2]], [[0.3, 0.4, 0.4]], [[0.2, 0.3, 0.4]]], np.float32)
    assert mask_of(several, None).tolist() == [[0, 1, 1]]


def test_otsus_threshold_is_the_upper_edge_of_the_last_bin_of_background() -> None:
    """Between 0.3, in bin 76 of 256, and 0.8 every cut parts alike; the first is taken."""
    assert otsu(np.array([[0.3, 0.3, 0.8, 0.8]], np.float32)) == 77 / 256
