"""Text for Markdown templates, in which a name that a user chose stays a name."""

from __future__ import annotations

import html
import re
from typing import Any

# An underscore between letters or digits is no mark (CommonMark 0.31, section 6.2), and common in names.
_MARKS = re.compile(r"([\\`*{}\[\]#|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


class Markdown(str):
    """A string that is markdown already, which `plain` passes as it is."""

    __slots__ = ()


def plain(value: Any) -> str:
    """Write a value as text of one line, in which nothing is markup: neither in a paragraph nor in a table's cell.

    `Markdown` passes as it is.
    """
    if isinstance(value, Markdown):
        return value
    return _MARKS.sub(r"\\\1", html.escape(" ".join(str(value).split()), quote=False))


def code(value: Any) -> Markdown:
    """Write a value as a code span, which a table's cell can hold too."""
    text = " ".join(str(value).split()).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def link(text: Any, url: str) -> Markdown:
    """Write a link; where the address isn't http, https or a place on MLflow's own pages, the text alone, as code."""
    if not re.match(r"https?://|#/", url):
        return code(text)
    safe = re.sub(r"[\s<>()\\|]", lambda found: f"%{ord(found.group()):02X}", url)
    return Markdown(f"[{plain(text)}]({safe})")
