"""Volumes as pictures: which planes, how they lie, and a film of slices with outlines."""

from __future__ import annotations

import numpy as np

from segops.contracts.masks import IGNORED
from segops.pictures.images import ORANGE, SKY, YELLOW
from segops.pictures.planes import MOST_SLICES, film, planes_of


def test_planes_are_those_with_the_most_foreground_head_up_and_in_true_proportions() -> None:
    mask_DHW = np.zeros((4, 6, 8), np.uint8)
    mask_DHW[3, 1:3, 6] = 1
    position = np.arange(4 * 6 * 8).reshape(4, 6, 8)
    shown = planes_of(mask_DHW, mask_DHW, (2.0, 1.0, 1.0))(position)
    assert shown.shape == (8, 8 + 2 + 8 + 2 + 6 + 2)  # the coronal and sagittal planes are 4 slices of 2 mm high
    axial, coronal, sagittal = shown[1:7, :8], shown[:, 10:18], shown[:, 20:26]
    np.testing.assert_array_equal(axial, position[3])
    np.testing.assert_array_equal(coronal[::2], position[::-1, 1])  # each slice twice, the head up
    np.testing.assert_array_equal(sagittal[1::2], position[::-1, :, 6])


def test_without_truth_the_prediction_chooses_and_without_both_the_middle() -> None:
    nothing, predicted = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    predicted[4, 0, 0] = 1
    numbers = np.arange(125).reshape(5, 5, 5)
    assert planes_of(nothing, predicted, None)(numbers)[0, 0] == numbers[4, 0, 0]
    assert planes_of(nothing, nothing, None)(numbers)[0, 0] == numbers[2, 0, 0]


def test_a_picture_stays_and_channels_stay() -> None:
    image_HWC, mask_HW = np.ones((3, 4, 2)), np.zeros((3, 4), np.uint8)
    assert planes_of(mask_HW, mask_HW, None)(image_HWC) is image_HWC
    volume = np.ones((4, 4, 4, 2))
    assert planes_of(volume[..., 0], volume[..., 0], None)(volume).shape == (4, 18, 2)


def test_large_volumes_are_shrunk() -> None:
    mask = np.zeros((10, 600, 600), np.uint8)
    assert planes_of(mask, mask, (5.0, 0.5, 0.5))(mask).shape[0] == 256


def test_a_film_has_a_slice_each_with_outlines_of_both() -> None:
    truth, predicted = np.zeros((3, 16, 16), np.uint8), np.zeros((3, 16, 16), np.uint8)
    truth[1, 2:8, 2:8] = 1
    predicted[1, 2:8, 8:14] = 2
    truth[2] = IGNORED
    slices = film(np.full((3, 16, 16, 1), 100, np.int16), truth, predicted, None)
    assert [shown.shape for shown in slices] == [(256, 256, 3)] * 3
    colours = [{tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()} for shown in slices]
    assert not {SKY, ORANGE, YELLOW} & colours[0]
    assert {SKY, ORANGE} <= colours[1]
    assert not {SKY, ORANGE, YELLOW} & colours[2]
    both = film(np.full((3, 16, 16, 1), 100, np.int16), truth, truth * (truth != IGNORED), None)
    assert YELLOW in {tuple(pixel) for pixel in both[1].reshape(-1, 3).tolist()}
    nothing = np.zeros((200, 8, 8), np.uint8)
    assert len(film(nothing[..., None], nothing, nothing, None)) == MOST_SLICES
