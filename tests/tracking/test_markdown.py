"""Markdown in which names that users chose stay names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from segops.contracts.scores import Interval
from segops.reports.markdown import Markdown, code, link, plain
from segops.reports.pages import render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Axon, thin", "Axon, thin"),
        ("a|b", r"a\|b"),
        ("*x* _y_ `z`", r"\*x\* \_y\_ \`z\`"),
        ("tuned_2", "tuned_2"),
        ("a__b", r"a\_\_b"),
        ("<script>", "&lt;script&gt;"),
        ("R&D", "R&amp;D"),
        ("# two\nlines", r"\# two lines"),
        ("[a](b)", r"\[a\](b)"),
        (3.5, "3.5"),
        (Markdown("**b**"), "**b**"),
    ],
)
def test_nothing_in_a_name_is_markup(text: object, expected: str) -> None:
    assert plain(text) == expected


@given(st.text())
def test_a_name_never_leaves_its_cell(text: str) -> None:
    cell = plain(text)
    assert "\n" not in cell
    assert "<" not in cell
    assert re.search(r"(?<!\\)(\\\\)*\|", cell) is None  # no bar that isn't escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", "`abc`"), ("a|b", r"`a\|b`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("a\nb", "`a b`")],
)
def test_code_spans_hold_backticks_and_bars(text: str, expected: str) -> None:
    assert code(text) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/x", "[a_b](https://a.example/x)"),
        ("#/models/m", "[a_b](#/models/m)"),
        ("https://a.example/(x) y", "[a_b](https://a.example/%28x%29%20y)"),
        ("javascript:alert(1)", "`a_b`"),
        ("s3://bucket/x", "`a_b`"),
    ],
)
def test_links_lead_to_pages_alone(url: str, expected: str) -> None:
    assert link("a_b", url) == expected


def test_templates_escape_what_is_filled_in_and_not_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segops.reports.pages._TEMPLATES", tmp_path)
    (tmp_path / "row.md.j2").write_text("| {{ name }} | {{ hash|code }} | {{ dice|interval }} | {{ none|score }} |\n")
    interval = Interval(mean=0.5, low=0.25, high=0.75, groups=4)
    row = render("row.md.j2", name="a|b", hash="f00", dice=interval, none=None)
    assert row == "| a\\|b | `f00` | 0.500 (0.250 to 0.750) | \N{EN DASH} |\n"
    (tmp_path / "row.html.j2").write_text("{{ name }}")
    assert render("row.html.j2", name="a|<b>") == "a|&lt;b&gt;"
    (tmp_path / "nothing.md.j2").write_text("{{ nothing }}")
    with pytest.raises(UndefinedError):
        render("nothing.md.j2")
