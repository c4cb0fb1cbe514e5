"""Images side by side with the masks of truth and candidates over them, each picture once in the page.

A picture is a CSS class with a data URI, so that an image that several pairs show costs its bytes once.
Axes: H height, W width. Masks hold class indices.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from segops.contracts.masks import IGNORED, classes_of
from segops.params.colours import rgb
from segops.pictures.images import HATCH, ORANGE, SKY, WHITE, YELLOW, Colour, outline, stripes
from segops.pictures.thumbnails import Mask, Thumbnails

_SOLID, _TINT = 255, 150  # opacity, of 255
_MOST_CLASSES = 127  # of more, a palette of 256 colours can't tell rims and errors apart: foreground alone is shown


class Shot(NamedTuple):
    """Holds one picture: what it shows, and the CSS classes of the image and of the mask over it."""

    name: str
    image: str
    over: str
    ratio: str  # width / height


class Row(NamedTuple):
    """Holds an image of a pair: its row of `paired_rows`, and the pictures."""

    about: dict[str, object]
    shots: list[Shot]


class Sheet:
    """Makes the pictures of a page, and the CSS rules that hold them.

    Args:
        thumbnails: by candidate.
        class_colours: `#rrggbb` by class index.

    Attributes:
        ignores: whether a truth that was drawn has ignored pixels.
        available: the images of which every candidate has thumbnails.
    """

    def __init__(self, thumbnails: Mapping[str, Thumbnails], class_colours: Sequence[str]) -> None:
        self._thumbnails, self._colours = thumbnails, class_colours
        self._numbers: dict[str, int] = {}
        self._rules: dict[str, str] = {}
        self.ignores = False
        self.available = set.intersection(*(zipped.image_ids for zipped in thumbnails.values()))

    def rows(self, pairs: pd.DataFrame, image_ids: Sequence[str], a: str, b: str) -> list[Row]:
        """Make a row per given image: the image, its truth, and what `a` and `b` predict."""
        by_id = pairs.set_index("image_id", drop=False)
        return [
            Row({str(name): value for name, value in by_id.loc[image_id].items()}, self._shots(image_id, a, b))
            for image_id in image_ids
        ]

    @property
    def css(self) -> Markup:
        """Return the CSS rules of all pictures that rows were asked for."""
        rules = "\n".join(f".{name} {{ background-image: url({uri}); }}" for name, uri in self._rules.items())
        return Markup(rules)  # noqa: S704 - our own names and base64

    def _shots(self, image_id: str, a: str, b: str) -> list[Shot]:
        """Make the pictures of an image: itself, its truth, and what `a` and `b` predict."""
        number = self._numbers.setdefault(image_id, len(self._numbers))
        source = self._thumbnails[a]
        truth_HW, _ = source.masks(image_id)
        self.ignores |= bool((truth_HW == IGNORED).any())
        truth_seams_HW, _ = source.seams(image_id)
        image = f"i{number}"
        self._rules.setdefault(image, _uri("jpeg", source.image(image_id)))
        overs = {"truth": self._over(f"t{number}", truth_HW, truth_HW, truth_seams_HW)}
        for name in (a, b):
            _, predicted_HW = self._thumbnails[name].masks(image_id)
            _, seams_HW = self._thumbnails[name].seams(image_id)
            position = list(self._thumbnails).index(name)
            overs[name] = self._over(f"p{number}-{position}", truth_HW, predicted_HW, seams_HW)
        height, width = truth_HW.shape
        ratio = f"{width} / {height}"
        return [Shot("image", image, "", ratio), *(Shot(name, image, over, ratio) for name, over in overs.items())]

    def _over(self, name: str, truth_HW: Mask, predicted_HW: Mask, seams_HW: Mask | None) -> str:
        """Add the rule of a picture that lies over an image, once, and return its name."""
        if name not in self._rules:
            self._rules[name] = _uri("png", over(truth_HW, predicted_HW, self._colours, seams_HW))
        return name


def over(truth_HW: Mask, predicted_HW: Mask, class_colours: Sequence[str], seams_HW: Mask | None = None) -> bytes:
    """Draw what lies over an image, as PNG: the rim of the prediction, its errors tinted, transparent elsewhere.

    The rim includes `seams_HW`, where two predicted objects touch.

    Of two classes errors are ORANGE where foreground was predicted wrongly and SKY where it was missed. Of several a
    wrong pixel has the predicted class's colour, or WHITE where background was predicted. Ignored pixels are hatched.
    """
    classes = len(class_colours)
    if classes > _MOST_CLASSES:
        truth_HW = np.where(truth_HW == IGNORED, truth_HW, np.minimum(truth_HW, 1))
        return over(truth_HW, np.minimum(predicted_HW, 1), class_colours[:2], seams_HW)
    rims: list[Colour] = [YELLOW] if classes == 2 else [rgb(colour) for colour in class_colours[1:]]
    wrong: list[Colour] = [SKY, ORANGE] if classes == 2 else [WHITE, *rims]
    ignored_HW = truth_HW == IGNORED
    # Indices: 0 nothing, then the rims of classes 1, 2, ..., then errors by predicted class 0, 1, ..., then ignored.
    shown_HW = np.where((truth_HW == predicted_HW) | ignored_HW, 0, classes + predicted_HW).astype(np.uint8)
    shown_HW[ignored_HW & stripes(ignored_HW.shape)] = 2 * classes
    rim_HW = outline(classes_of(predicted_HW))
    if seams_HW is not None:
        rim_HW |= (seams_HW > 0) & (predicted_HW > 0)
    shown_HW[rim_HW] = predicted_HW[rim_HW]
    hatch = [HATCH[1]] if ignored_HW.any() else []
    palette = [(0, 0, 0), *rims, *wrong, *hatch]
    opacity = [0, *[_SOLID] * len(rims), *[_TINT] * (len(wrong) + len(hatch))]
    drawn = Image.fromarray(shown_HW)
    drawn.putpalette([part for colour in palette for part in colour])
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG", transparency=bytes(opacity))
    return buffer.getvalue()


def _uri(kind: str, content: bytes) -> str:
    """Encode a picture's bytes as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
