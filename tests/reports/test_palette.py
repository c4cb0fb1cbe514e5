"""Colours that everybody can read: contrasts of WCAG 2.2, and series told apart with any colour vision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from segops.params.colours import PALETTE, rgb
from segops.reports.charts.split import COLOURS
from segops.reports.pages import render
from segops.reports.palette import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT

THEMES = {"light": (LIGHT, SERIES_LIGHT), "dark": (DARK, SERIES_DARK)}
TEXT, GRAPHIC = 4.5, 3.0  # WCAG 2.2, success criteria 1.4.3 (AA) and 1.4.11
TOLD_APART = 8.0  # CIEDE2000; 2.3 can just be seen side by side
# Machado, Oliveira and Fernandes 2009, table 1: severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> npt.NDArray[np.float64]:
    """sRGB `#rrggbb` as linear light in [0, 1]."""
    values = np.array(rgb(colour)) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG's contrast ratio, 1 to 21."""
    bright, dim = sorted((float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (a, b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def as_seen(colour: str, vision: str) -> npt.NDArray[np.float64]:
    """A colour as CIELAB, as somebody with that colour vision sees it."""
    seen = np.clip(np.array(VISIONS[vision]) @ linear(colour), 0, 1)
    values = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(values))


def nearest(colours: Sequence[str], vision: str) -> float:
    """The smallest difference of two of the colours."""
    seen = [as_seen(colour, vision) for colour in colours]
    return min(float(deltaE_ciede2000(a, b)) for a, b in combinations(seen, 2))


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # known as just too pale


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["page", "card"])
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "good", "bad", "warn"])
def test_text_can_be_read(theme: str, ground: str, ink: str) -> None:
    colours, _ = THEMES[theme]
    assert contrast(colours[ink], colours[ground]) >= TEXT


@pytest.mark.parametrize("theme", THEMES)
def test_lines_of_charts_can_be_seen(theme: str) -> None:
    colours, series = THEMES[theme]
    assert {colour: contrast(colour, colours["page"]) >= GRAPHIC for colour in series} == dict.fromkeys(series, True)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("vision", VISIONS)
def test_candidates_are_told_apart_with_any_colour_vision(theme: str, vision: str) -> None:
    _, series = THEMES[theme]
    assert nearest(series, vision) >= TOLD_APART
    assert nearest(series[: len(COLOURS)], vision) >= 1.5 * TOLD_APART, "train, val and test"


@pytest.mark.parametrize("vision", VISIONS)
def test_classes_are_told_apart_with_any_colour_vision(vision: str) -> None:
    assert nearest(PALETTE, vision) >= TOLD_APART


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", THEMES)
def test_good_and_bad_are_told_apart_with_any_colour_vision(theme: str, vision: str) -> None:
    colours, _ = THEMES[theme]
    assert nearest([colours["good"], colours["bad"]], vision) >= TOLD_APART


def test_every_colour_of_the_style_is_of_the_palette() -> None:
    page = render("page.html.j2")
    style = page[page.index("* {") : page.index("</style>")]
    named = set(re.findall(r"var\(--([a-z]+)\)", style))
    assert named <= set(LIGHT) | {"ratio"}
    written = set(re.findall(r"(?<![\w&])#[0-9a-f]{3,8}\b", style))
    assert written <= {"#000", "#000d"}, "the ground of pictures alone"
