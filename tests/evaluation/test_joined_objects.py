"""Labelled objects that are several, with answers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segops.evaluation.joined_objects import joined_objects
from segops.evaluation.label_errors import Region

SIZE_HW = (24, 60)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask_HW = np.zeros(SIZE_HW, np.uint8)
    mask_HW[top : top + height, left : left + width] = 1
    return mask_HW


LEFT, RIGHT = box(4, 6, 16, 16), box(4, 24, 16, 10)  # 2 px of ground between them
JOINED = box(4, 6, 16, 28)


def suspects(
    label_HW: np.ndarray,
    seen_HW: np.ndarray,
    *,
    confident_HW: np.ndarray | None = None,
    objects_HW: np.ndarray | None = None,
    tolerance_px: int = 2,
) -> list[Region]:
    confident_HW = seen_HW.astype(np.int16) if confident_HW is None else confident_HW
    return joined_objects(label_HW, objects_HW, seen_HW, confident_HW, tolerance_px)


def test_the_smaller_of_two_joined_objects_is_a_suspect_with_all_its_pixels() -> None:
    [region] = suspects(JOINED, LEFT | RIGHT)
    assert (region.given, region.suggested, region.area_px, region.weight_px) == (1, 1, 160, 160.0)
    assert region.box == (3.5, 23.5, 19.5, 33.5)
    assert region.words(["ground", "cell"]) == "cell drawn with another"


@pytest.mark.parametrize(
    ("label_HW", "seen_HW"),
    [
        (LEFT | RIGHT, LEFT | RIGHT),  # drawn as two
        (JOINED, JOINED),  # seen as one
        (JOINED, LEFT),  # the rest isn't seen: regions of pixels tell that
        (JOINED, LEFT | box(10, 30, 3, 3)),  # no disc of the tolerance fits into the other part
    ],
)
def test_an_object_that_is_seen_once_is_no_suspect(label_HW: np.ndarray, seen_HW: np.ndarray) -> None:
    assert suspects(label_HW, seen_HW) == []


def test_a_cut_of_which_predictions_are_not_sure_is_no_suspect() -> None:
    confident_HW = (LEFT | RIGHT).astype(np.int16)
    confident_HW[box(0, 22, 24, 2) > 0] = -1
    assert suspects(JOINED, LEFT | RIGHT, confident_HW=confident_HW) == []
    confident_HW[4:8, 22:24] = 0  # a quarter of the strip
    assert len(suspects(JOINED, LEFT | RIGHT, confident_HW=confident_HW)) == 1


def test_objects_that_the_source_tells_apart_may_touch() -> None:
    objects_HW = np.where(np.arange(60) < 23, JOINED, JOINED * 2)
    assert suspects(JOINED, LEFT | RIGHT, objects_HW=objects_HW) == []
    assert len(suspects(JOINED, LEFT | RIGHT, objects_HW=JOINED)) == 1
