"""A PNG that is written strip by strip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segops.pictures.png_file import write_mask


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 41), st.booleans())
def test_a_mask_comes_back_and_its_bytes_do_not_depend_on_the_strips(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, strip: int, classes: bool
) -> None:
    mask = np.random.default_rng(height).integers(0, 3, (height, width)).astype(np.uint8)
    colours = ["#000000", "#ff0000", "#00ff00"] if classes else []
    folder = tmp_path_factory.mktemp("png")
    strips = [mask[first : first + strip] for first in range(0, height, strip)]
    write_mask(folder / "strips.png", mask.shape, strips, colours)
    write_mask(folder / "whole.png", mask.shape, [mask], colours)
    assert (folder / "strips.png").read_bytes() == (folder / "whole.png").read_bytes()
    with Image.open(folder / "strips.png") as image:
        assert image.mode == ("P" if classes else "L")
        assert (np.asarray(image) == mask).all()
        if classes:
            assert (image.getpalette() or [])[:9] == [0, 0, 0, 255, 0, 0, 0, 255, 0]


@pytest.mark.parametrize("values", [2, 256])
@pytest.mark.parametrize("rows", [1, 97, 655, 699])
def test_a_noisy_mask_fills_several_chunks_alike_however_it_comes(values: int, rows: int, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, values, (700, 500)).astype(np.uint8)
    write_mask(tmp_path / "whole.png", mask.shape, [mask])
    write_mask(tmp_path / "strips.png", mask.shape, [mask[first : first + rows] for first in range(0, 700, rows)])
    content = (tmp_path / "strips.png").read_bytes()
    assert content.count(b"IDAT") > 1
    assert content == (tmp_path / "whole.png").read_bytes()
    with Image.open(tmp_path / "strips.png") as image:
        assert (np.asarray(image) == mask).all()
