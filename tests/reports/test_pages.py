"""What HTML pages are made of."""

from __future__ import annotations

import base64
import io
import re
from importlib import resources

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from segops.contracts.scores import Interval
from segops.pictures.images import (
    DIMMED,
    GREY,
    ORANGE,
    SKY,
    class_error_map,
    error_map,
    mask_picture,
    outline,
    overlay,
    picture,
    png,
    thumbnail_uri,
)
from segops.reports.charts.confusion import confusion_chart, shade
from segops.reports.charts.distributions import histogram
from segops.reports.numbers import interval, number, p_value, signed
from segops.reports.pages import render

TWO = ["#000000", "#e69f00"]
PAGE = "no_search.html.j2"  # the smallest


def test_a_page_is_self_contained_and_escapes_what_it_is_given() -> None:
    page = render(PAGE, names=["<script>alert(1)</script>"])
    assert page.startswith("<!DOCTYPE html>")
    assert "<style>:root {" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http" not in page


def test_a_name_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render(PAGE)


def test_numbers() -> None:
    assert number(0.12345, 3) == "0.123"
    assert number(None, 3) == number(float("nan"), 2) == "\N{EN DASH}"
    assert signed(0.12345, 3) == "+0.123"
    assert signed(None, 3) == signed(float("nan"), 3) == interval(None) == p_value(None) == "\N{EN DASH}"
    assert (p_value(0.05), p_value(0.00001)) == ("0.0500", "< 0.0001")
    assert interval(Interval(mean=0.9, low=0.85, high=0.9512, groups=4)) == "0.900 (0.850 to 0.951)"
    assert interval(Interval(mean=0.9, low=None, high=None, groups=1)) == "0.900 (1 group)"


def test_8_bit_images_are_shown_as_they_are() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(picture(image), np.repeat(image[..., None], 3, axis=2))
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert np.array_equal(picture(colour), colour)


@pytest.mark.parametrize("image", [np.arange(1000, 2000, dtype=np.uint16), np.arange(100, dtype=np.uint8)])
def test_deep_and_dark_images_are_stretched_for_show(image: np.ndarray) -> None:
    shown = picture(image.reshape(10, -1))
    assert shown.dtype == np.uint8
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_constant_image_can_be_shown() -> None:
    assert picture(np.full((4, 4, 1), 7, np.uint16)).shape == (4, 4, 3)


def test_error_map_tells_the_four_cases_apart() -> None:
    truth = np.array([[1, 2, 0, 0]], np.uint8)
    predicted = np.array([[1, 0, 1, 0]], np.uint8)
    assert error_map(truth, predicted)[0].tolist() == [list(GREY), list(SKY), list(ORANGE), [0, 0, 0]]


def test_outline_is_the_rim_also_between_touching_classes_and_at_the_edge() -> None:
    mask = np.zeros((7, 7), np.uint8)
    mask[1:6, 1:6] = 1
    rim = mask.astype(bool)
    rim[2:5, 2:5] = False
    assert np.array_equal(outline(mask), rim)
    assert np.array_equal(outline(np.array([[1, 1, 1, 2, 2, 2]] * 9))[4], [True, False, True, True, False, True])
    assert outline(mask.astype(bool)).sum() == 16


def test_overlay_tints_the_inside_and_leaves_the_rest() -> None:
    image, mask = np.full((9, 9, 3), 200, np.uint8), np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 1
    shown = overlay(image, mask, ["#ffffff", "#000000"], opacity=0.5)
    assert shown[0, 0].tolist() == [200] * 3
    assert shown[2, 2].tolist() == [0] * 3
    assert shown[4, 4].tolist() == [100] * 3


def test_masks_have_the_colours_of_their_classes_and_two_classes_are_black_and_white() -> None:
    assert mask_picture(np.array([[0, 1]], np.uint8), ["#000000", "#e69f00"])[0].tolist() == [[0] * 3, [255] * 3]
    shown = mask_picture(np.array([[0, 1, 2]], np.uint8), ["#102030", "#e69f00", "#0072b2"])
    assert shown[0].tolist() == [[16, 32, 48], [230, 159, 0], [0, 114, 178]]


THREE = ["#102030", "#e69f00", "#0072b2"]


def test_errors_among_several_classes_have_the_predicted_colour_or_white() -> None:
    truth = np.array([[0, 1, 2, 0, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 2, 0, 2]], np.uint8)
    orange, blue = (230, 159, 0), (0, 114, 178)
    dim_orange, dim_blue = ([int(part * DIMMED) for part in colour] for colour in (orange, blue))
    shown = class_error_map(truth, predicted, THREE)[0].tolist()
    assert shown == [[0] * 3, dim_orange, list(orange), list(blue), [255] * 3, dim_blue]


def test_overlays_have_a_colour_a_class() -> None:
    mask = np.zeros((9, 20), np.uint8)
    mask[2:7, 2:7], mask[2:7, 12:17] = 1, 2
    shown = overlay(np.zeros((9, 20, 3), np.uint8), mask, THREE, opacity=0.5)
    assert shown[2, 2].tolist() == [230, 159, 0]
    assert shown[2, 12].tolist() == [0, 114, 178]
    assert shown[4, 14].tolist() == [0, 57, 89]
    assert shown[0, 0].tolist() == [0] * 3


def test_a_mask_with_a_palette_keeps_its_indices() -> None:
    mask = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    with Image.open(io.BytesIO(png(mask, THREE))) as read:
        assert read.mode == "P"
        assert np.array_equal(np.asarray(read), mask)
        assert np.array_equal(np.asarray(read.convert("RGB")), mask_picture(mask, THREE))


def test_a_confusion_chart_shades_right_and_wrong_cells_by_their_share() -> None:
    matrix, names = [[80, 20], [0, 0]], ["background", "a name of more than eighteen letters"]
    content = confusion_chart(matrix, names, "test")
    assert content == confusion_chart(matrix, names, "test")
    with Image.open(io.BytesIO(content)) as drawn:
        colours = set(map(tuple, np.asarray(drawn.convert("RGB")).reshape(-1, 3).tolist()))
    blue, orange = (tuple(round(255 * part) for part in shade(*cell)) for cell in ((True, 0.8), (False, 0.2)))
    assert blue == (round(255 - 255 * 0.8), round(255 - 141 * 0.8), round(255 - 77 * 0.8))
    assert orange == (round(255 - 25 * 0.2), round(255 - 96 * 0.2), round(255 - 255 * 0.2))
    assert shade(True, 0) == shade(False, 0) == (1, 1, 1)
    assert {blue, orange} <= colours


def test_thumbnails_have_the_height_asked_for_and_keep_the_aspect_ratio() -> None:
    uri = thumbnail_uri(np.zeros((30, 60), np.uint16), 90)
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (180, 90)


def test_hard_edges_stay_hard() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[3:7, 3:7] = 1
    uri = thumbnail_uri(mask_picture(mask, TWO), 33, smooth=False)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert set(np.unique(shown).tolist()) == {0, 255}


def test_png_is_lossless_and_repeatable() -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert png(array) == png(array)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(array)))), array)


def test_histogram_counts_outliers_in_the_outer_bins() -> None:
    drawn = histogram("<share>", [-1, 0.05, 0.95, 2, 3], low=0, high=1, bins=10)
    assert drawn == histogram("<share>", [-1, 0.05, 0.95, 2, 3], low=0, high=1, bins=10)
    assert re.findall("<title>(.*)</title>", drawn) == ["2 from 0 to 0.1", "3 from 0.9 to 1"]
    assert 'aria-label="&lt;share&gt; by image"' in drawn
    assert "<title>" not in histogram("nothing", [], low=0, high=1)


def test_a_page_gives_no_word_of_the_common_style_a_meaning_of_its_own() -> None:
    """`.panels.wide` would also be as wide as a wide table: elements with two words get the styles of both."""
    templates = resources.files("segops.reports") / "templates"
    common = set(re.findall(r"\.([a-z][\w-]*)(?=[^{}]*\{)", (templates / "style.css").read_text(encoding="utf-8")))
    assert {"wide", "scroll"} <= common
    for template in templates.iterdir():
        if template.name.endswith(".html.j2"):
            own = " ".join(re.findall(r"<style>(.*?)</style>", template.read_text(encoding="utf-8"), re.DOTALL))
            doubled = {word for pair in re.findall(r"\.([a-z][\w-]*)\.([a-z][\w-]*)", own) for word in pair}
            assert doubled & common == set(), template.name
