"""suspects' page: the images whose labels are likeliest wrong, with what predictions suggest instead.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from segops.contracts.suspects import SUSPECT_IMAGES_FILE, SUSPECT_REGIONS_FILE, Suspects
from segops.pictures.images import (
    ORANGE,
    SKY,
    VERMILION,
    YELLOW,
    Array,
    Picture,
    class_palette,
    outline,
    picture,
    thumbnail_uri,
)

if TYPE_CHECKING:
    from segops.contracts.prepared import Prepared
    from segops.evaluation.label_errors import Region

PAGE = "index.html"
_SHOWN = 48  # images with pictures
_ROWS = 300  # of the table; all are in the CSV
_HEIGHT_PX = 256
_TINT = 0.55


class Seen(NamedTuple):
    """Holds an image's row of images.csv, its regions, and how to read image HWC and label HW."""

    about: dict[str, Any]
    regions: Sequence[Region]
    read: Callable[[], tuple[Array, Array]]


def suspects_page(suspects: Suspects, images: Sequence[Seen], prepared: Prepared) -> str:
    """Render the page as HTML.

    Args:
        images: the likeliest error first.
    """
    from segops.reports.pages import render

    suspicious = [image for image in images if image.regions]
    colours = prepared.class_colours
    shown = [
        {
            "about": image.about,
            "words": _words(image.regions, suspects.classes),
            "uri": thumbnail_uri(suspect_picture(*image.read(), image.regions, colours), _HEIGHT_PX, photo=True),
        }
        for image in suspicious[:_SHOWN]
    ]
    return render(
        "suspects.html.j2",
        suspects=suspects,
        shown=shown,
        rows=[image.about for image in suspicious[:_ROWS]],
        more=max(0, len(suspicious) - _ROWS),
        tenth=-(-suspects.images // 10),
        colours=dict(zip(suspects.classes[1:], colours[1:], strict=True)),
        files=(SUSPECT_IMAGES_FILE, SUSPECT_REGIONS_FILE),
    )


def suspect_picture(image: Array, label_HW: Array, regions: Sequence[Region], class_colours: Sequence[str]) -> Picture:
    """Draw an image with its label's rims, and each region tinted.

    Of two classes rims are YELLOW, regions ORANGE where the label lacks foreground and SKY where it has too much. Of
    several, rims have their class's colour and regions the suggested class's, SKY for background. Objects drawn with
    another are VERMILION.
    """
    from skimage.draw import polygon

    two = len(class_colours) == 2
    shown = picture(image).astype(np.float32)
    palette = class_palette(class_colours)
    palette[0] = SKY
    for region in regions:
        rows, columns = zip(*region.outline, strict=True)
        added = ORANGE if two and region.suggested else palette[region.suggested]
        colour = np.array(VERMILION if region.suggested == region.given else added, np.float32)
        inside = polygon(np.array(rows), np.array(columns), label_HW.shape)
        shown[inside] = (1 - _TINT) * shown[inside] + _TINT * colour
    rim = outline(np.where(label_HW < len(class_colours), label_HW, 0))
    shown[rim] = YELLOW if two else palette[label_HW[rim]]
    return shown.round().astype(np.uint8)


def _words(regions: Sequence[Region], classes: Sequence[str]) -> str:
    """Say what an image's regions suggest, the heaviest kinds first."""
    weights: dict[str, float] = {}
    for region in regions:
        name = region.words(classes)
        weights[name] = weights.get(name, 0) + region.weight_px
    return "; ".join(f"{name} ({weight:.0f} px)" for name, weight in sorted(weights.items(), key=lambda kind: -kind[1]))
