"""A confusion matrix as a picture, for places that show no HTML."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segops.pictures.images import BLUE, ORANGE, Colour, Picture

_CELL_PX, _LABEL_PX, _HEAD_PX = (132, 56), 150, 64
_INK, _LINE, _PAPER = (28, 35, 48), (223, 227, 232), (255, 255, 255)
_LONGEST = 18  # letters of a class's name


def confusion_picture(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Picture:
    """A row a class of the truth, a column a predicted class; each cell its share of the row, and its pixels.

    Right pixels are shaded BLUE, wrong ones ORANGE, by their share of the row.
    """
    (cell_w, cell_h), sides = _CELL_PX, len(classes)
    size = (_LABEL_PX + cell_w * sides + 12, _HEAD_PX + cell_h * sides + 12)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    large, small = ImageFont.load_default(15), ImageFont.load_default(12)
    draw.text((10, 10), f"{title}: truth (rows) and prediction (columns), pixels", _INK, large)
    for row, (name, counted) in enumerate(zip(classes, matrix, strict=True)):
        top = _HEAD_PX + row * cell_h
        draw.text((_LABEL_PX - 10, top + cell_h / 2), _short(name), _INK, large, anchor="rm")
        draw.text((_LABEL_PX + (row + 0.5) * cell_w, _HEAD_PX - 10), _short(name), _INK, large, anchor="ms")
        for column, pixels in enumerate(counted):
            left, share = _LABEL_PX + column * cell_w, pixels / max(sum(counted), 1)
            shade = _shade(BLUE if row == column else ORANGE, share)
            draw.rectangle((left + 1, top + 1, left + cell_w - 2, top + cell_h - 2), shade, _LINE)
            ink = _INK if sum(shade) > 3 * 125 else _PAPER
            shown = f"{share:.1%}" if sum(counted) else "\N{EN DASH}"
            draw.text((left + cell_w / 2, top + 20), shown, ink, large, anchor="mm")
            draw.text((left + cell_w / 2, top + 40), f"{pixels:,}", ink, small, anchor="mm")
    return np.asarray(image, np.uint8)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _shade(colour: Colour, share: float) -> Colour:
    red, green, blue = (round(255 + (part - 255) * share) for part in colour)
    return red, green, blue
