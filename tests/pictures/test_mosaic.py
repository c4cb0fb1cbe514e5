"""The mosaic shows each group, the extremes and each kind, and draws masks as outlines over photos."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image

from segops.pictures.mosaic import choose, tile


def manifest(images: int, groups: int) -> pd.DataFrame:
    """Rows whose values grow with their number, but for the objects, which fall."""
    numbers = np.arange(images)
    return pd.DataFrame(
        {
            "image_id": [f"img{number:03d}" for number in numbers],
            "group_id": [f"group{number % groups}" for number in numbers],
            "modality": "fluorescence",
            "dtype": "uint8",
            "channels": [1] * (images - 1) + [3],
            "height": 64,
            "depth": 1,
            "width": 64 + numbers,
            "foreground_fraction": numbers / images,
            "intensity_mean": numbers / images,
            "intensity_std": 0.1,
            "instances": images - numbers,
        }
    )


def test_each_group_is_shown_and_the_extremes_are_named() -> None:
    chosen = dict(choose(manifest(200, 20)))
    assert len(chosen) == 24
    assert {int(name[3:]) % 20 for name in chosen} == set(range(20))
    assert chosen["img000"] == "darkest, least foreground, smallest, most objects"
    assert chosen["img199"] == "brightest, most foreground, largest, fewest objects, 3 channels"
    assert sum(not reason for reason in chosen.values()) == 21  # and one with the first kind, a single channel


def test_the_extremes_come_before_the_groups_where_not_all_have_a_place() -> None:
    chosen = dict(choose(manifest(200, 100)))
    assert len(chosen) == 24
    assert {"img000", "img199"} <= set(chosen)
    assert len({int(name[3:]) % 100 for name in chosen}) >= 23


def test_the_choice_doesnt_depend_on_the_order_of_rows_and_takes_all_of_a_few() -> None:
    rows = manifest(60, 7)
    assert choose(rows) == choose(rows[::-1])
    assert sorted(name for name, _ in choose(manifest(5, 2))) == [f"img00{number}" for number in range(5)]


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_tile_is_a_photo_under_an_outline_of_its_size_in_the_classes_colours() -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[10:30, 10:30] = 1
    mask[40:50, 40:70] = 2
    photo, outline = tile(np.full((60, 90, 1), 100, np.uint8), mask, ("#000000", "#ff0000", "#00ff00"))
    assert decoded(photo).size == (90, 60)
    shown = np.asarray(decoded(outline).convert("RGBA"))
    assert shown[10, 10].tolist() == [255, 0, 0, 255]
    assert shown[45, 40].tolist() == [0, 255, 0, 255]
    assert shown[20, 20, 3] == shown[0, 0, 3] == 0  # inside and outside are clear


def test_a_large_tile_is_shrunk_and_a_mask_of_another_size_is_not_drawn() -> None:
    photo, outline = tile(np.zeros((1000, 500, 3), np.uint8), np.zeros((1000, 400), np.uint8), ("#000000", "#ff0000"))
    assert decoded(photo).size == (224, 448)
    assert outline is None
