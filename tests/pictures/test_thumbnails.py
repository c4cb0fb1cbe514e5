"""thumbnails.zip: small pictures with both masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segops.errors import UserError
from segops.pictures.thumbnails import SIDE_PX, Thumbnails, ThumbnailWriter, chosen


def _write(path: Path) -> Path:
    """A small image of three classes, a large one, and one that isn't wanted."""
    rng = np.random.default_rng(0)
    small_HW, large_HW = np.arange(60, dtype=np.uint8).reshape(6, 10) % 3, np.zeros((512, 1024), np.uint8)
    large_HW[:, 512:] = 2
    with ThumbnailWriter(path, {"small", "large"}) as thumbnails:
        thumbnails.add("small", rng.integers(0, 255, (6, 10, 3), np.uint8), small_HW, 2 - small_HW)
        thumbnails.add("large", rng.random((512, 1024, 1)).astype(np.float32), large_HW, large_HW)
        thumbnails.add("other", small_HW[..., None], small_HW, small_HW)
    return path


def test_masks_keep_their_indices_and_large_images_become_small(tmp_path: Path) -> None:
    read = Thumbnails(_write(tmp_path / "a.zip"))
    assert read.image_ids == {"small", "large"}
    truth_HW, predicted_HW = read.masks("small")
    assert np.array_equal(truth_HW, np.arange(60).reshape(6, 10) % 3)
    assert np.array_equal(predicted_HW, 2 - truth_HW)
    truth_HW, _ = read.masks("large")
    assert truth_HW.shape == (SIDE_PX // 2, SIDE_PX)
    assert np.array_equal(truth_HW, np.repeat([[0, 2]], SIDE_PX // 2, axis=1).repeat(SIDE_PX // 2, axis=0))
    with Image.open(io.BytesIO(read.image("large"))) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE_PX, SIDE_PX // 2))


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    assert _write(tmp_path / "a.zip").read_bytes() == _write(tmp_path / "b.zip").read_bytes()


def test_of_many_images_the_same_ones_are_chosen_whatever_their_order() -> None:
    names = [f"image{i}" for i in range(50)]
    some = chosen(names, 10)
    assert len(some) == 10
    assert some == chosen(names[::-1], 10)
    assert some < chosen(names, 20)
    assert chosen(names, 100) == set(names)
    assert chosen(names, 0) == set()


def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a.zip: no such file; run evaluate again \(`dvc repro`\)"):
        Thumbnails(tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes(_write(tmp_path / "whole.zip").read_bytes()[:-50])
    with pytest.raises(UserError, match=r"a.zip: not the thumbnails that evaluate writes"):
        Thumbnails(tmp_path / "a.zip")
    with pytest.raises(UserError, match="not the thumbnails"):
        Thumbnails(tmp_path / "whole.zip").image("absent")
