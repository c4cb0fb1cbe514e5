"""One picture of many: panels under words, in rows. Axes: H height, W width; pictures are uint8 RGB arrays HW3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segops.pictures.images import Picture

_GAP_PX, _WORDS_PX, _FONT_PX = 6, 24, 16
_PAPER, _INK = (255, 255, 255), (32, 32, 32)


class Cell(NamedTuple):
    """Holds pictures that belong together, and the words above them.

    Attributes:
        hard: by picture, whether its edges stay hard when it is scaled, as a mask's should.
    """

    words: str
    pictures: Sequence[Picture]
    hard: Sequence[bool]


def montage(rows: Sequence[Sequence[Cell]], side_px: int, words: str = "") -> Picture:
    """Lay cells out in rows, each picture scaled to fill a square of `side_px` with its proportions kept.

    Args:
        words: a line above all.
    """
    drawn = [[_cell(cell, side_px) for cell in row] for row in rows]
    heights = [max(cell.height for cell in row) for row in drawn]
    top = _WORDS_PX if words else 0
    sheet = Image.new("RGB", (max(sum(cell.width for cell in row) for row in drawn), top + sum(heights)), _PAPER)
    _write(sheet, words)
    for row, height in zip(drawn, heights, strict=True):
        left = 0
        for cell in row:
            sheet.paste(cell, (left, top))
            left += cell.width
        top += height
    return np.asarray(sheet, np.uint8)


def _cell(cell: Cell, side_px: int) -> Image.Image:
    """Draw a cell: its words, cut where they would leave it, and its pictures side by side."""
    scaled = [_scaled(picture, side_px, hard) for picture, hard in zip(cell.pictures, cell.hard, strict=True)]
    height = _WORDS_PX + max(picture.height for picture in scaled) + _GAP_PX
    sheet = Image.new("RGB", (len(scaled) * (side_px + _GAP_PX), height), _PAPER)
    _write(sheet, cell.words)
    for number, picture in enumerate(scaled):
        sheet.paste(picture, (number * (side_px + _GAP_PX), _WORDS_PX))
    return sheet


def _scaled(picture: Picture, side_px: int, hard: bool) -> Image.Image:
    """Scale a picture so that its longer side is `side_px`."""
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    how = Image.Resampling.NEAREST if hard else Image.Resampling.BICUBIC
    return Image.fromarray(picture).resize((max(1, round(width * scale)), max(1, round(height * scale))), how)


def _write(sheet: Image.Image, words: str) -> None:
    """Write a line at the top of a sheet."""
    ImageDraw.Draw(sheet).text((2, 3), words, fill=_INK, font=ImageFont.load_default(_FONT_PX))
