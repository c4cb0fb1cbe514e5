"""The pictures of a candidate's run: few, with the same keys for all, and the same images where they are compared."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segops.contracts.evaluation import Evaluation
from segops.pictures.thumbnails import THUMBNAILS_FILE
from segops.reports.run_pictures import run_pictures
from segops.tracking.pictures import RunPicture
from tests.support.judged_candidates import folders, write_candidate, write_thumbnails

THREE = ("background", "myelin", "axon")


def _pictures(root: Path, name: str) -> dict[str, RunPicture]:
    places = folders(root)
    report = places.reports / name
    drawn = list(run_pictures(places.models / name, report, Evaluation.load(report)))
    assert len({picture.key for picture in drawn}) == len(drawn)
    return {picture.key: picture for picture in drawn}


def _pixels(picture: RunPicture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(picture.content)) as opened:
        return np.asarray(opened.convert("RGB"), np.uint8)


@pytest.mark.parametrize("classes", [("background", "nucleus"), THREE])
def test_every_candidate_has_the_same_few_pictures_and_equal_files_give_equal_ones(
    classes: tuple[str, ...], tmp_path: Path
) -> None:
    write_candidate(tmp_path, "small", test=(0.2, 0.4, 0.6, 0.8), classes=classes)
    drawn = _pictures(tmp_path, "small")
    assert set(drawn) == {"pictures/test", "pictures/curves", "pictures/confusion"}
    assert drawn == _pictures(tmp_path, "small")


def test_a_montage_has_two_images_for_all_then_the_worst_median_and_best(tmp_path: Path) -> None:
    for name, dice in (("small", (0.2, 0.4, 0.6, 0.8, 0.9)), ("large", (0.9, 0.8, 0.6, 0.4, 0.2))):
        write_candidate(tmp_path, name, test=dice)
        height, width, _ = _pixels(_pictures(tmp_path, name)["pictures/test"]).shape
        assert width == 2 * (256 + 6)  # image and errors
        assert height == 24 + 5 * (24 + round(256 * 32 / 48) + 6)


def test_images_without_a_thumbnail_are_left_out(tmp_path: Path) -> None:
    write_candidate(tmp_path, "small", test=(0.2, 0.4, 0.6))
    report = folders(tmp_path).reports / "small"
    table = pd.read_csv(report / "per_image.csv")
    write_thumbnails(report / THUMBNAILS_FILE, table[table["image_id"] == "test01"])
    shown = _pixels(_pictures(tmp_path, "small")["pictures/test"])
    write_thumbnails(report / THUMBNAILS_FILE, table[table["subset"] == "val"])
    assert set(_pictures(tmp_path, "small")) == {"pictures/curves", "pictures/confusion"}
    assert shown.shape[0] == 24 + 2 * (24 + round(256 * 32 / 48) + 6)  # for all, and the worst
