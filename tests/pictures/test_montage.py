"""Montages: pictures keep their proportions and colours, and each has its words above it."""

from __future__ import annotations

import numpy as np

from segops.pictures.montage import Cell, montage

RED, BLUE = (200, 0, 0), (0, 0, 200)


def _plain(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((height, width, 3), colour, np.uint8)


def _share(sheet: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colour: tuple[int, int, int]) -> int:
    return int((sheet == colour).all(axis=-1).sum())


def test_each_picture_fills_its_square_with_its_proportions_kept() -> None:
    sheet = montage([[Cell("wide and small", [_plain(10, 20, RED), _plain(40, 40, BLUE)], [True, True])]], 100)
    assert (_share(sheet, RED), _share(sheet, BLUE)) == (100 * 50, 100 * 100)


def test_a_row_is_as_high_as_its_highest_cell_and_rows_follow_one_another() -> None:
    low, high = (Cell("", [_plain(height, 100, RED)], [True]) for height in (10, 100))
    frame = montage([[low]], 100).shape[0] - 10
    assert montage([[low, high], [low]], 100).shape[0] == (100 + frame) + (10 + frame)
    assert montage([[low]], 100, "above all").shape[0] > 10 + frame


def test_words_are_drawn_above_their_picture_and_equal_input_gives_equal_pixels() -> None:
    blank, words = (montage([[Cell(text, [_plain(9, 9, RED)], [True])]], 90) for text in ("", "Dice 0.9"))
    top = int(np.flatnonzero((words == RED).all(axis=-1).any(axis=1))[0])
    assert (blank[:top] == 255).all()
    assert (words[:top] < 128).any()
    np.testing.assert_array_equal(words[top:], blank[top:])
    np.testing.assert_array_equal(words, montage([[Cell("Dice 0.9", [_plain(9, 9, RED)], [True])]], 90))
