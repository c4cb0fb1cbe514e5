"""Colours of classes: what is given, what is chosen, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.errors import UserError
from segops.params.colours import PALETTE, colours_by_index, rgb
from segops.params.ingest import IngestParams
from segops.params.project import load_params

CLASSES = ["background", "myelin", "axon"]


def test_classes_without_a_colour_get_the_palette_in_index_order() -> None:
    assert colours_by_index(CLASSES, {}) == ["#000000", *PALETTE[:2]]
    assert rgb("#e69f00") == (230, 159, 0)


def test_a_colour_that_is_given_is_not_chosen_again() -> None:
    assert colours_by_index(CLASSES, {"axon": PALETTE[0]}) == ["#000000", PALETTE[1], PALETTE[0]]
    assert colours_by_index(CLASSES, {"background": "#ffffff"})[0] == "#ffffff"


@given(st.integers(2, 256))
def test_every_class_has_a_colour_of_its_own(classes: int) -> None:
    found = colours_by_index([str(index) for index in range(classes)], {"1": PALETTE[3]})
    assert len(set(found)) == classes
    assert all(len(rgb(colour)) == 3 for colour in found)


def test_params_take_colours_by_class_name() -> None:
    values = {0: "background", 127: "myelin", 255: "axon"}
    params = IngestParams(source="a.zip", mask_values=values, class_colours={"axon": "#0072B2"})
    assert params.colours == ["#000000", "#e69f00", "#0072b2"]


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        ("{myelim: '#0072b2'}", "mask_values has no class 'myelim'; did you mean 'myelin'"),
        ("{myelin: #0072b2\n    }", r"'ingest.class_colours.myelin' = None: expected a colour \"#rrggbb\", in quotes"),
        ("{myelin: blue}", "'ingest.class_colours.myelin' = 'blue': expected a colour"),
        ("{myelin: '#111111', axon: '#111111'}", "'myelin' and 'axon' are both #111111"),
        ("{axon: '#000000'}", "'background' and 'axon' are both #000000"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, colours: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "candidates: {one: {model: {architecture: unet}}}\ningest:\n  source: unused\n"
        f"  mask_values: {{0: background, 127: myelin, 255: axon}}\n  class_colours: {colours}\n"
    )
    with pytest.raises(UserError, match=message) as found:
        load_params(path)
    assert "\n" not in str(found.value)
