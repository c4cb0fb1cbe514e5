"""Arrays to look at: images, masks, overlays and maps of errors, and how they become PNG, JPEG or a data URI.

Axes: H height, W width, C channels. Pictures are uint8 RGB arrays HW3. Colours of classes are `#rrggbb` by index.
Pixels that a mask ignores are hatched.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED, classes_of, is_foreground
from segops.params import colours
from segops.params.colours import rgb

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
ORANGE: Colour = rgb(colours.ORANGE)
SKY: Colour = rgb(colours.SKY)
VERMILION: Colour = rgb(colours.VERMILION)
YELLOW: Colour = rgb(colours.YELLOW)
GREY: Colour = (200, 200, 200)
WHITE: Colour = (255, 255, 255)
DIMMED = 0.35
HATCH: tuple[Colour, Colour] = ((64, 64, 64), (128, 128, 128))
_HATCH_PX, _HATCHED_PX = 6, 192  # from a stripe to the next, of a picture of that size; of larger ones in proportion
_SMALLEST_SPAN = 1e-12
_DARK = 0.5  # an image whose bright end lies below this share of full scale is stretched for show


def picture(image: Array, black_and_white: tuple[float, float] | None = None) -> Picture:
    """Turn an image HW or HWC into uint8 RGB to look at: of more channels the first three, of two the first.

    Args:
        black_and_white: the values that become black and white; by default those of `shown_range`, with 255 as the full
            scale of 8-bit images and none for others.
    """
    image_HWC = image[..., None] if image.ndim == 2 else image
    image_HWC = image_HWC[..., : 3 if image_HWC.shape[-1] >= 3 else 1]
    eight_bits = image_HWC.dtype == np.uint8
    black, white = black_and_white or shown_range(image_HWC, 255 if eight_bits else None)
    if not (eight_bits and (black, white) == (0, 255)):
        levels_HWC = (image_HWC.astype(np.float64) - black) / (white - black) * 255
        image_HWC = np.clip(levels_HWC, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3)))


def shown_range(image: Array, full_scale: float | None) -> tuple[float, float]:
    """Choose which values of an image are shown as black and white.

    They are 0 and `full_scale`, but the 0.5th and 99.5th percentiles of an image that has no full scale, or of a dark
    image, whose 99.5th percentile lies in the lower half of the scale.
    """
    low, high = (float(value) for value in np.percentile(image, [0.5, 99.5]))
    least = 1.0 if image.dtype.kind in "ui" else _SMALLEST_SPAN
    if full_scale is not None:
        if high >= _DARK * full_scale:
            return 0.0, float(full_scale)
        least = full_scale / 255
    return low, max(high, low + least)


def mask_picture(mask_HW: Array, class_colours: Sequence[str], objects_HW: Array | None = None) -> Picture:
    """Draw a mask of class indices in its classes' colours; two classes are black and white, as in a mask's file.

    Args:
        objects_HW: labels; a line of the background's colour parts those that touch.
    """
    if len(class_colours) == 2:
        class_colours = ("#000000", "#ffffff")
    shown = class_palette(class_colours)[classes_of(mask_HW)]
    if objects_HW is not None:
        shown[seams(objects_HW)] = rgb(class_colours[0])
    return hatched(shown, mask_HW)


def hatched(shown_HW3: Picture, mask_HW: Array, *, see_through: bool = False) -> Picture:
    """Draw stripes of HATCH over the pixels that a mask ignores; the picture itself where there is none.

    Args:
        see_through: leaves out every other stripe.
    """
    ignored_HW = mask_HW == IGNORED
    if not ignored_HW.any():
        return shown_HW3
    hatched_HW3, bright_HW = shown_HW3.copy(), stripes(mask_HW.shape)
    hatched_HW3[ignored_HW & bright_HW] = HATCH[1]
    if not see_through:
        hatched_HW3[ignored_HW & ~bright_HW] = HATCH[0]
    return hatched_HW3


def stripes(size_hw: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return every other stripe of a hatching."""
    rows, columns = np.indices(size_hw)
    period = _HATCH_PX * max(1, round(max(size_hw) / _HATCHED_PX))
    return np.asarray((rows + columns) % period < period // 2)


def seams(objects_HW: Array) -> npt.NDArray[np.bool_]:
    """Find the pixels of an object whose right or lower neighbour belongs to another object."""
    seam_HW = np.zeros(objects_HW.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        upper, lower = objects_HW[here], objects_HW[there]
        seam_HW[here] |= (upper != lower) & (upper > 0) & (lower > 0)
    return seam_HW


def nearest(array_HW: Array, size_hw: tuple[int, int]) -> Array:
    """Scale a mask or labels to a size by the nearest pixel."""
    rows, columns = (
        (2 * np.arange(size) + 1) * side // (2 * size) for size, side in zip(size_hw, array_HW.shape, strict=True)
    )
    return np.asarray(array_HW[np.ix_(rows, columns)])


def error_map(truth_HW: Array, predicted_HW: Array) -> Picture:
    """Draw right foreground grey, false positives ORANGE, false negatives SKY, right background black."""
    truth, predicted = is_foreground(truth_HW), predicted_HW > 0
    shown = np.zeros((*truth.shape, 3), np.uint8)
    shown[truth & predicted] = GREY
    shown[predicted & ~truth] = ORANGE
    shown[truth & ~predicted] = SKY
    return hatched(shown, truth_HW)


def class_error_map(truth_HW: Array, predicted_HW: Array, class_colours: Sequence[str]) -> Picture:
    """Draw right pixels in their class's colour, dimmed; wrong ones in the predicted class's, WHITE for background."""
    palette = class_palette(class_colours)
    palette[0] = 0
    right = truth_HW == predicted_HW
    shown = palette[predicted_HW]
    shown[right] = shown[right] * DIMMED
    shown[~right & (predicted_HW == 0)] = WHITE
    return hatched(shown, truth_HW)


def class_palette(class_colours: Sequence[str]) -> Picture:
    """Return the classes' colours as an array of RGB, one row per class."""
    return np.array([rgb(colour) for colour in class_colours], np.uint8)


def outline(mask_HW: Array) -> npt.NDArray[np.bool_]:
    """Find the foreground pixels with a 4-neighbour of another class, or at the image's edge."""
    padded = np.pad(mask_HW, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in neighbours], axis=0))


def overlay(
    image: Array,
    mask_HW: Array,
    class_colours: Sequence[str],
    opacity: float = 0.25,
    objects_HW: Array | None = None,
) -> Picture:
    """Draw the image with its foreground tinted and outlined in the colours of the classes.

    Args:
        objects_HW: labels; objects that touch are outlined each by itself.
    """
    shown = picture(image).astype(np.float32)
    index_HW = classes_of(mask_HW).astype(np.uint8)
    colour_HW3 = class_palette(class_colours)[index_HW]
    inside, rim = index_HW > 0, outline(index_HW)
    if objects_HW is not None:
        rim |= outline(objects_HW)
    shown[inside] = (1 - opacity) * shown[inside] + opacity * colour_HW3[inside]
    shown[rim] = colour_HW3[rim]
    return hatched(shown.round().astype(np.uint8), mask_HW, see_through=True)


def png(array: Array, class_colours: Sequence[str] = ()) -> bytes:
    """Encode a uint8 array HW or HW3 as PNG; the same array gives the same bytes.

    Args:
        class_colours: makes a mask HW of class indices a PNG with a palette, which keeps the indices.
    """
    from PIL import Image

    shown = Image.fromarray(np.ascontiguousarray(array))
    if class_colours:
        shown.putpalette(class_palette(class_colours).tobytes())
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def thumbnail_uri(array: Array, height_px: int, *, smooth: bool = True, photo: bool = False) -> str:
    """Make a picture of `height_px` as a data URI. Other than uint8 RGB goes through `picture` first.

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
        return picture_uri(small)
    return "data:image/png;base64," + base64.b64encode(png(small)).decode()


def picture_uri(array_HW3: Picture) -> str:
    """Make a picture a data URI, as JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(array_HW3)).decode()


def jpeg(shown: Picture) -> bytes:
    """Encode a picture HW3, or grey HW, as JPEG of good quality."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
