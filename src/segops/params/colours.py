"""Chooses the colours of classes, `#rrggbb`: the same in galleries, overlays and predicted masks."""

from __future__ import annotations

import colorsys
import difflib
import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Annotated, Any

from pydantic import Field

HexColour = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]
_WRITTEN = r"^#[0-9a-fA-F]{6}$"
WrittenColour = Annotated[str, Field(pattern=_WRITTEN)]  # as a user may write it

BACKGROUND = "#000000"
# Okabe and Ito's palette: told apart with any colour vision.
ORANGE, SKY, GREEN, YELLOW, BLUE = "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2"
VERMILION, PURPLE = "#d55e00", "#cc79a7"
PALETTE = (ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE)
_GOLDEN = 0.618034


def hex_colour(value: Any) -> str:
    """Return a colour as a user wrote it, in lower case. Raises ValueError unless it is `#rrggbb`."""
    if not isinstance(value, str) or not re.fullmatch(_WRITTEN, value):
        raise ValueError('expected a colour "#rrggbb", in quotes, since YAML takes a bare # for a comment')
    return value.lower()


def check_given(chosen: Mapping[str, str], classes: Sequence[str]) -> None:
    """Raise ValueError for a colour of an unknown class, with the nearest known class, or of two classes."""
    chosen = {classes[0]: BACKGROUND, **chosen}
    for name, colour in chosen.items():
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"the classes are {', '.join(classes)}"
            raise ValueError(f"class_colours: mask_values has no class '{name}'; {hint}")
        twin = next((other for other in chosen if other != name and chosen[other] == colour), None)
        if twin is not None:
            raise ValueError(f"class_colours: '{name}' and '{twin}' are both {colour}; give each class its own")


def colours_by_index(classes: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    """Return a colour for each class, all different: the user's, else black for background and PALETTE in index order.

    Classes beyond the palette get hues spread by the golden ratio.
    """
    taken = {*chosen.values(), BACKGROUND}
    free = (colour for index in count() if (colour := _default(index)) not in taken)
    background = {classes[0]: BACKGROUND}
    return [chosen.get(name) or background.get(name) or next(free) for name in classes]


def rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue of `#rrggbb`, 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _default(index: int) -> str:
    """Return the colour at an index of the palette and its endless continuation."""
    if index < len(PALETTE):
        return PALETTE[index]
    hue = (index - len(PALETTE)) * _GOLDEN % 1
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, 0.9)))
