"""Colours of pages and charts: the reader's light or dark theme, and Okabe and Ito's for what is told apart.

Colours of classes are a param (`params/colours.py`), colours inside pictures are in `pictures/images.py`; both take the
same seven.
"""

from __future__ import annotations

from segops.params.colours import BLUE, GREEN, ORANGE, SKY, VERMILION, YELLOW

LIGHT = {
    "ink": "#1c2330",
    "soft": "#5c6675",
    "line": "#dfe3e8",
    "page": "#ffffff",
    "card": "#f6f7f9",
    "accent": BLUE,
    "good": "#1b7f5c",
    "bad": "#b3401f",
    "warn": "#96690a",
}
DARK = {
    "ink": "#e6e9ee",
    "soft": "#9aa4b2",
    "line": "#343b46",
    "page": "#14171c",
    "card": "#1d2128",
    "accent": SKY,
    "good": "#4fc39a",
    "bad": "#ef8a62",
    "warn": "#e6b34d",
}
# Of candidates in one chart: far from one another and from the page with any colour vision, as a test measures.
SERIES_LIGHT = (BLUE, VERMILION, GREEN, "#863948", "#521098", "#433c00")
SERIES_DARK = (SKY, "#ff9a4d", "#d53879", "#5ffeae", "#757d1d", "#5a58e0")
GREY = "#9aa4b2"  # of what is in the background, readable in either theme
_HATCHED = "repeating-linear-gradient(135deg, #404040 0 3px, #808080 3px 6px)"  # as `pictures.images.hatched` draws
KEYS = {  # of the keys beside pictures
    "orange": ORANGE,
    "sky": SKY,
    "vermilion": VERMILION,
    "yellow": YELLOW,
    "white": "#ffffff",
    "hatched": _HATCHED,
}


def css() -> str:
    """Write the colours as CSS variables: `--ink`, ..., `--series-0`, ..."""
    light, dark = (_variables(*theme) for theme in ((LIGHT, SERIES_LIGHT), (DARK, SERIES_DARK)))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def _variables(theme: dict[str, str], series: tuple[str, ...]) -> str:
    """Write a theme's colours as CSS variables."""
    named = theme | {f"series-{number}": colour for number, colour in enumerate(series)}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
