"""Chooses images that show what a dataset is like, and makes pictures of them with their masks' outlines.

The choice is a function of the manifest alone: its extremes, then groups and kinds that aren't shown yet, then images
by the hash of their names. Axes: H height, W width, C channels.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED, classes_of
from segops.pictures.images import HATCH, class_palette, nearest, outline, picture, stripes

if TYPE_CHECKING:
    import pandas as pd

MOST = 24
_SIDE_PX = 448  # the longer side of a picture, at most
_QUALITY = 78
_CROWDED = 0.08  # share of outlines in a picture; more aren't thickened, so that the image can be seen
_EXTREMES = (
    ("intensity_mean", "darkest", "brightest"),
    ("intensity_std", "least contrast", "most contrast"),
    ("foreground_fraction", "least foreground", "most foreground"),
    ("pixels", "smallest", "largest"),
    ("instances", "fewest objects", "most objects"),
)


class Chosen(NamedTuple):
    """An image of the mosaic, and why it is there; empty: by chance."""

    image_id: str
    reason: str


def choose(manifest: pd.DataFrame, most: int = MOST) -> list[Chosen]:
    """Choose at most `most` images: each group, the extremes and one of each kind, then any.

    Where there are more groups than places, the extremes and kinds come before the groups.
    """
    rows = manifest.drop_duplicates("image_id")
    mixed = rows.iloc[np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in rows["image_id"]])]
    reasons: dict[str, list[str]] = {}
    for image_id, reason in (*_extremes(rows), *_kinds(mixed)):
        reasons.setdefault(image_id, []).append(reason)
    telling_first = mixed.iloc[np.argsort(~mixed["image_id"].isin(reasons), kind="stable")]
    by_group = telling_first.drop_duplicates("group_id")["image_id"]
    few_groups = len(by_group) <= most
    order = [*by_group, *reasons] if few_groups else [*reasons, *by_group]
    chosen = list(dict.fromkeys([*order, *mixed["image_id"]]))[:most]
    return [
        Chosen(name, ", ".join(reasons.get(name, ()))) for name in sorted(chosen, key=lambda name: name not in reasons)
    ]


def _extremes(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the images with the smallest and the largest values; a value that all have has none."""
    rows = rows.assign(pixels=rows["depth"] * rows["height"] * rows["width"])
    for column, least, largest in _EXTREMES:
        known = rows[rows[column] >= 0] if column == "instances" else rows
        if known[column].nunique() > 1:
            ordered = known.sort_values([column, "image_id"])["image_id"]
            yield ordered.iloc[0], least
            yield ordered.iloc[-1], largest


def _kinds(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield the first image of each modality, sample type and number of channels, where there are several."""
    for column in ("modality", "dtype", "channels"):
        firsts = rows.drop_duplicates(column)
        if len(firsts) > 1:
            for image_id, value in zip(firsts["image_id"], firsts[column], strict=True):
                yield image_id, f"{value} channel{'' if value == 1 else 's'}" if column == "channels" else str(value)


class Tile(NamedTuple):
    """A picture, and its mask's outline to lay over it, as data URIs of one size; no outline: it doesn't fit."""

    photo_uri: str
    outline_uri: str | None


def tile(
    image: npt.NDArray[Any],
    mask_HW: npt.NDArray[Any],
    class_colours: Sequence[str],
    objects_HW: npt.NDArray[Any] | None = None,
) -> Tile:
    """Make a picture of an image HW or HWC, and one of the outlines of its mask's classes, transparent elsewhere.

    Ignored pixels are hatched.

    Args:
        objects_HW: labels; objects that touch are outlined each by itself.
    """
    from PIL import Image

    shown = Image.fromarray(picture(image))
    scale = min(1.0, _SIDE_PX / max(shown.size))
    size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
    buffer = io.BytesIO()
    shown.resize(size, Image.Resampling.BICUBIC).save(buffer, format="JPEG", quality=_QUALITY)
    photo = _uri("jpeg", buffer)
    if image.shape[:2] != mask_HW.shape:
        return Tile(photo, None)
    small_HW = nearest(mask_HW, size[::-1]).astype(np.uint8)
    ignored_HW, small_HW = small_HW == IGNORED, classes_of(small_HW)
    rim_HW = outline(small_HW)
    if objects_HW is not None:
        rim_HW |= outline(nearest(objects_HW, size[::-1]))
    if max(size) > _SIDE_PX // 2 and rim_HW.mean() < _CROWDED:
        rim_HW = _thicker(rim_HW)
    rim_HW = np.where(rim_HW, small_HW, 0)
    palette = class_palette(class_colours)
    if ignored_HW.any():
        rim_HW[ignored_HW & stripes(ignored_HW.shape)] = len(palette)
        palette = np.vstack([palette, np.array(HATCH[1:], np.uint8)])
    rim = Image.fromarray(rim_HW)
    rim.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    rim.save(buffer, format="PNG", transparency=0, optimize=False, compress_level=9, bits=_bits(len(palette)))
    return Tile(photo, _uri("png", buffer))


def _bits(colours: int) -> int:
    """Return the bits a pixel of a palette PNG needs."""
    return next(bits for bits in (1, 2, 4, 8) if colours <= 2**bits)


def _thicker(rim_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Add the pixels beside a rim, so that a smaller picture shows it too."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(rim_HW))


def _uri(kind: str, buffer: io.BytesIO) -> str:
    """Write an image file as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
