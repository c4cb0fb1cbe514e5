"""Where the templates of pages and cards stand."""

from __future__ import annotations

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"


def read_template(name: str) -> str:
    """The text of a file of `templates/`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")
