"""What the project's HTML pages share: one style, thumbnails as data URIs, overlays, a small histogram.

A page is one self-contained file that reads offline. A template extends the frame:

    {% extends "page.html" %}{% block title %}...{% endblock %}{% block body %}...{% endblock %}

Axes: H height, W width, C channels. Pictures are uint8 RGB arrays HW3. Colours of classes are `#rrggbb` by index.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from segops.class_colours import rgb
from segops.scores import Interval, ReliabilityBin

if TYPE_CHECKING:
    from markupsafe import Markup

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Okabe and Ito's palette: told apart with any colour vision.
ORANGE: Colour = (230, 159, 0)
BLUE: Colour = (0, 114, 178)
SKY: Colour = (86, 180, 233)
GREY: Colour = (200, 200, 200)
WHITE: Colour = (255, 255, 255)
DIMMED = 0.35

_SMALLEST_SPAN = 1e-12
_DARK = 0.5  # an image whose bright end lies below this share of full scale is stretched for show

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5c6675; --line: #dfe3e8; --page: #ffffff; --card: #f6f7f9;
  --accent: #0072b2; --good: #1b7f5c; --bad: #b3401f; --warn: #96690a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b46; --page: #14171c;
  --card: #1d2128; --accent: #56b4e9; --good: #4fc39a; --bad: #ef8a62; --warn: #e6b34d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 32px 24px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 10px; }
h3 { font-size: 15px; margin: 20px 0 6px; } p { margin: 6px 0; max-width: 78ch; }
a { color: var(--accent); } code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.soft, figcaption, caption { color: var(--soft); } small { font-size: 12.5px; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 13px; } td.number, th.number { text-align: right; }
.scroll { overflow-x: auto; }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); margin: 18px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.card .value { font-size: 24px; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
figure { margin: 0; } img { max-width: 100%; display: block; border-radius: 3px; background: #000; }
.thumbnails { display: flex; flex-wrap: wrap; gap: 12px; } .thumbnails figure { max-width: 220px; }
figcaption { font-size: 12.5px; overflow-wrap: anywhere; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin: 0 5px -1px 14px;
  border: 1px solid var(--line); }
svg text { fill: var(--soft); font: 11px system-ui, "DejaVu Sans", sans-serif; } svg .bar { fill: var(--accent); }
svg .axis { stroke: var(--line); } dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""

_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{% block title %}{% endblock %}</title>
<style>{{ style }}</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
"""


def render(template: str, **context: Any) -> str:
    """Fill a jinja2 template; every value is escaped unless it is Markup, a name that isn't given is an error.

    Filters: `score`, `interval`, `signed(decimals)` and `decimals(decimals)` below, and `pixels` (two decimals).
    """
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    loader = DictLoader({"page.html": _FRAME, "this.html": template})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"score": score, "interval": interval, "pixels": lambda px: number(px, 2)}
    environment.filters |= {"decimals": number, "signed": signed}
    return environment.get_template("this.html").render(style=Markup(STYLE), **context) + "\n"  # noqa: S704 - our own


def number(value: float | None, decimals: int) -> str:
    """A number with that many decimals; a dash for none."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float | None, decimals: int) -> str:
    """A number with its sign and that many decimals; a dash for none."""
    return number(value, decimals) if value is None else f"{value:+.{decimals}f}"


def score(value: float | None) -> str:
    """A number between 0 and 1 with three decimals; a dash for none."""
    return number(value, 3)


def interval(value: Interval | None) -> str:
    """A mean and its interval, as `Interval.words`; a dash for none."""
    return number(None, 3) if value is None else value.words()


def picture(image: Array) -> Picture:
    """An image HW or HWC as something to look at: uint8 RGB, of more channels the first three, of two the first.

    Images other than 8-bit ones, and 8-bit ones whose bright end lies in the lower half of the scale, are stretched so
    that the 0.5th and 99.5th percentiles become black and white.
    """
    image_HWC = image[..., None] if image.ndim == 2 else image
    image_HWC = image_HWC[..., : 3 if image_HWC.shape[-1] >= 3 else 1]
    low, high = np.percentile(image_HWC, [0.5, 99.5])
    if image_HWC.dtype != np.uint8 or high < _DARK * np.iinfo(np.uint8).max:
        span = max(high - low, 1.0) if image_HWC.dtype.kind in "ui" else max(high - low, _SMALLEST_SPAN)
        image_HWC = np.clip((image_HWC.astype(np.float32) - low) / span * 255, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3)))


def mask_picture(mask_HW: Array, class_colours: Sequence[str]) -> Picture:
    """A mask of class indices in the colours of its classes; two classes are black and white, as in a mask's file."""
    if len(class_colours) == 2:
        class_colours = ("#000000", "#ffffff")
    return _palette(class_colours)[mask_HW]


def error_map(truth_HW: Array, predicted_HW: Array) -> Picture:
    """Right foreground grey, false positives ORANGE, false negatives SKY, right background black."""
    truth, predicted = truth_HW > 0, predicted_HW > 0
    shown = np.zeros((*truth.shape, 3), np.uint8)
    shown[truth & predicted] = GREY
    shown[predicted & ~truth] = ORANGE
    shown[truth & ~predicted] = SKY
    return shown


def class_error_map(truth_HW: Array, predicted_HW: Array, class_colours: Sequence[str]) -> Picture:
    """Right pixels in their class's colour, dimmed; wrong ones in the predicted class's, WHITE for background."""
    palette = _palette(class_colours)
    palette[0] = 0
    right = truth_HW == predicted_HW
    shown = palette[predicted_HW]
    shown[right] = shown[right] * DIMMED
    shown[~right & (predicted_HW == 0)] = WHITE
    return shown


def _palette(class_colours: Sequence[str]) -> Picture:
    return np.array([rgb(colour) for colour in class_colours], np.uint8)


def outline(mask_HW: Array) -> npt.NDArray[np.bool_]:
    """The foreground pixels with a 4-neighbour of another class, or at the image's edge."""
    padded = np.pad(mask_HW, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in neighbours], axis=0))


def overlay(image: Array, mask_HW: Array, class_colours: Sequence[str], opacity: float = 0.25) -> Picture:
    """The image with its foreground tinted and outlined in the colours of the classes."""
    shown = picture(image).astype(np.float32)
    colour_HW3 = _palette(class_colours)[mask_HW.astype(np.uint8)]
    inside, rim = mask_HW > 0, outline(mask_HW)
    shown[inside] = (1 - opacity) * shown[inside] + opacity * colour_HW3[inside]
    shown[rim] = colour_HW3[rim]
    return shown.round().astype(np.uint8)


def png(array: Array, class_colours: Sequence[str] = ()) -> bytes:
    """A uint8 array HW or HW3 as PNG; the same array gives the same bytes.

    Args:
        class_colours: makes a mask HW of class indices a PNG with a palette, which keeps the indices.
    """
    from PIL import Image

    shown = Image.fromarray(np.ascontiguousarray(array))
    if class_colours:
        shown.putpalette(_palette(class_colours).tobytes())
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def thumbnail_uri(array: Array, height_px: int, *, smooth: bool = True, photo: bool = False) -> str:
    """A picture of `height_px` as a data URI. Other than uint8 RGB goes through `picture` first.

    Args:
        smooth: False keeps hard edges (masks, error maps): nearest pixel.
        photo: JPEG, a fifth of PNG's size for what nobody measures.
    """
    from PIL import Image

    shown = array if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 else picture(array)
    width_px = max(1, round(shown.shape[1] * height_px / shown.shape[0]))
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    small = np.asarray(Image.fromarray(np.ascontiguousarray(shown)).resize((width_px, height_px), how))
    if photo:
        return "data:image/jpeg;base64," + base64.b64encode(jpeg(small)).decode()
    return "data:image/png;base64," + base64.b64encode(png(small)).decode()


def jpeg(array_HW3: Picture) -> bytes:
    """A picture as JPEG, of good quality."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(array_HW3).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def svg_histogram(
    values: Sequence[float] | Array, *, low: float, high: float, bins: int = 20, label: str = "", height_px: int = 90
) -> Markup:
    """An inline SVG histogram of `values` between `low` and `high`; values outside count in the outer bins."""
    from markupsafe import Markup, escape

    tally, _ = np.histogram(np.clip(np.asarray(values, np.float64), low, high), bins=bins, range=(low, high))
    bar_px, top = 14, max(int(tally.max(initial=0)), 1)
    width_px = bins * bar_px
    bars = "".join(
        f'<rect class="bar" x="{i * bar_px + 1}" y="{height_px - h}" width="{bar_px - 2}" height="{h}">'
        f"<title>{count}</title></rect>"
        for i, count in enumerate(tally)
        if (h := round(int(count) / top * height_px, 1))
    )
    marks = (
        f'<line class="axis" x1="0" y1="{height_px}" x2="{width_px}" y2="{height_px}"/>'
        f'<text x="0" y="{height_px + 14}">{low:g}</text>'
        f'<text x="{width_px / 2}" y="{height_px + 14}" text-anchor="middle">{escape(label)}</text>'
        f'<text x="{width_px}" y="{height_px + 14}" text-anchor="end">{high:g}</text>'
    )
    return Markup(  # noqa: S704 - numbers and an escaped label
        f'<svg viewBox="0 0 {width_px} {height_px + 18}" width="{width_px}" height="{height_px + 18}" role="img" '
        f'aria-label="{escape(label)}">{bars}{marks}</svg>'
    )


def svg_reliability(bins: Sequence[ReliabilityBin], side_px: int = 240) -> Markup:
    """A reliability curve as inline SVG: frequency over confidence, a dot's area growing with the bin's pixels."""
    from markupsafe import Markup

    shown = [one for one in bins if one.confidence is not None and one.frequency is not None]
    most = max((math.log1p(one.pixels) for one in shown), default=1.0)
    points = [(one.confidence * side_px, (1 - one.frequency) * side_px, one) for one in shown]  # type: ignore[operator]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{1.5 + 4 * math.log1p(one.pixels) / most:.1f}" class="bar">'
        f"<title>{one.pixels:,} pixels above {one.low:.2f}: confidence {one.confidence:.3f}, "
        f"frequency {one.frequency:.3f}</title></circle>"
        for x, y, one in points
    )
    marks = "".join(
        f'<text x="{share * side_px}" y="{side_px + 16}" text-anchor="middle">{share:g}</text>'
        f'<text x="-8" y="{(1 - share) * side_px + 4}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.5, 1)
    )
    return Markup(  # noqa: S704 - numbers alone
        f'<svg viewBox="-34 -8 {side_px + 50} {side_px + 44}" width="{side_px + 50}" height="{side_px + 44}" '
        f'role="img" aria-label="reliability curve">'
        f'<rect width="{side_px}" height="{side_px}" fill="none" class="axis"/>'
        f'<line class="axis" x1="0" y1="{side_px}" x2="{side_px}" y2="0"/>{marks}'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="1.5"/>{dots}'
        f'<text x="{side_px / 2}" y="{side_px + 32}" text-anchor="middle">confidence</text></svg>'
    )
