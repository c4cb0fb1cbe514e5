"""What lies over an image: the rim of a mask and its errors, transparent elsewhere.

Axes: H height, W width. Masks hold class indices.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from segops.contracts.masks import IGNORED, classes_of
from segops.params.colours import rgb
from segops.pictures.images import HATCH, ORANGE, SKY, WHITE, YELLOW, Colour, outline, stripes
from segops.pictures.thumbnails import Mask

_SOLID, _TINT = 255, 150  # opacity, of 255
_MOST_CLASSES = 127  # of more, a palette of 256 colours can't tell rims and errors apart: foreground alone is shown


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
