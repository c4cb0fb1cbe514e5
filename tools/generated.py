"""Pages that are written from the code: `main` of each of them writes it, or with --check fails when it isn't so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from segops.errors import OneLineError, UserError
from segops.files import write_text


def between(text: str, begin: str, end: str, content: str) -> str:
    """The text with `content` in the place of what stands between its two markers."""
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def write_or_check(page: Path, wanted: Callable[[str], str], complaint: str) -> None:
    """Write a page, or with `--check` on the command line end with one line when it is another.

    Args:
        wanted: the whole page, from its present text ("" where there is none).
        complaint: what is wrong with a page that is another.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    content = wanted(text)
    try:
        if sys.argv[1:] != ["--check"]:
            write_text(page, content)
        elif content != text:
            raise UserError(f"{page}: {complaint}; run `make docs`")
    except OneLineError as error:
        sys.exit(f"segops: {error}")
