"""Matplotlib drawings as inline SVG: text stays text, colours are the page's own, marks say what they are.

A drawing has no metadata, no reference to outside and no id but those it uses, and equal input gives equal text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segops.reports.charts.style import style

# Matplotlib wants colours, the page has variables that follow the reader's theme: these represent them until the end.
INK, SOFT, LINE, ACCENT, WARN = "#010001", "#010002", "#010003", "#010004", "#010005"
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", ACCENT: "accent", WARN: "warn"}
SERIES = tuple(f"#0200{number:02x}" for number in range(6))
_VARIABLES |= {colour: f"series-{number}" for number, colour in enumerate(SERIES)}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
Tips = Mapping[str, Sequence[str]]  # by the gid of an artist: a text for each of its marks, in order


def drawing(
    name: str, label: str, size_in: tuple[float, float], draw: Callable[[list[Axes]], Tips], *, panels: int = 1
) -> Markup:
    """Draw on `panels` axes side by side, and return the drawing as inline SVG.

    Args:
        name: of the drawing, none of the page's others has it.
        label: what it shows, for readers who can't see it.
        size_in: width and height, inches of 72 px.
    """
    with mpl.rc_context(style(INK, SOFT, LINE) | {"svg.hashsalt": name}):
        figure = Figure(figsize=size_in, layout="constrained")
        tips = draw([figure.add_subplot(1, panels, at + 1) for at in range(panels)])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    return inline(buffer.getvalue(), tips, label)


def inline(svg: str, tips: Tips, label: str) -> Markup:
    """Turn matplotlib's SVG file into an element of an HTML page."""
    root = ElementTree.fromstring(svg[svg.index("<svg") :])  # noqa: S314 - our own
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    _drop(root, {"metadata", "style"})
    for group in list(root.iter("g")):
        if texts := tips.get(group.attrib.pop("id", "")):
            _say(group, texts)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "drawing", "role": "img", "aria-label": label}
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    return Markup(re.sub("#0[12]00[0-9a-f]{2}", _variable, text))  # noqa: S704 - serialized as XML, so escaped


def _variable(found: re.Match[str]) -> str:
    """Replace a placeholder colour by the page's variable for it; other colours stay."""
    name = _VARIABLES.get(found[0])
    return f"var(--{name})" if name else found[0]


def _drop(root: ElementTree.Element, tags: set[str]) -> None:
    """Remove all elements with these tags."""
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _say(group: ElementTree.Element, texts: Sequence[str]) -> None:
    """Give each mark of a group its text, which browsers show under the pointer."""
    marks = [mark for mark in _drawn(group) if mark.tag in ("use", "path")]
    assert len(marks) == len(texts), f"{len(marks)} marks and {len(texts)} texts"
    for mark, text in zip(marks, texts, strict=True):
        ElementTree.SubElement(mark, "title").text = text


def _drawn(element: ElementTree.Element) -> list[ElementTree.Element]:
    """Return an element's descendants but those in `defs`, in order."""
    found: list[Any] = []
    for child in element:
        if child.tag != "defs":
            found += [child, *_drawn(child)]
    return found
