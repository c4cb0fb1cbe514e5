"""Draws `synthetic://nuclei`, the images of a procedural microscope, so that the whole graph runs without a download.

A field of view is drawn once, twice as high and wide as an image, and cut into four tiles, so that nuclei cross tile
borders and the tiles of a field are a group. With `tiles=2` only the upper two are kept: more groups of fewer images.
Two fields in three look like fluorescence, the third like stained tissue. Field k depends on the seed and k alone.

With `channels=N` every field is fluorescence in N stains, as images of N channels.

Members are `images/field-<k>/tile-<t>.png` and `masks/field-<k>/tile-<t>/nucleus-<i>.png` (0 and 255, a nucleus
each): layout `pairs`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segops.data.images import encode_array
from segops.data.sources.query import whole_number
from segops.progress import track


@dataclass(frozen=True)
class Nuclei:
    """What `synthetic://nuclei?n=..&size=..&seed=..` asks for.

    n: images; size: height and width of an image, pixels; seed: names the fields; channels: of each image, 0: 1 for
    fluorescence and 3 for stained tissue; tiles: images that are kept of a field.
    """

    KEYS: ClassVar[dict[str, Callable[[str], object]]] = {
        "n": whole_number(1, 1_000_000),
        "size": whole_number(32, 2048),
        "seed": whole_number(0, 2**32 - 1),
        "channels": whole_number(0, 64),
        "tiles": whole_number(1, 4),
    }

    n: int = 96
    size: int = 128
    seed: int = 0
    channels: int = 0
    tiles: int = 4

    @property
    def uri(self) -> str:
        """The source's URI, with what isn't the default."""
        stains = f"&channels={self.channels}" if self.channels else ""
        tiles = f"&tiles={self.tiles}" if self.tiles != Nuclei.tiles else ""
        return f"synthetic://nuclei?n={self.n}&size={self.size}&seed={self.seed}{stains}{tiles}"

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Draw the fields in turn; yield names and encoded bytes of images and masks."""
        from segops.data.layouts.microscope import draw_field

        count = -(-self.n // self.tiles)
        for number in track(range(count), "drawing synthetic fields"):
            image_HWC, labels_HW = draw_field(number, 2 * self.size, self.seed, self.channels)
            for tile in range(min(self.tiles, self.n - number * self.tiles)):
                top, left = self.size * (tile // 2), self.size * (tile % 2)
                window = np.s_[top : top + self.size, left : left + self.size]
                stem = f"field-{number:05d}/tile-{tile}"
                yield _image_member(f"images/{stem}", image_HWC[window])
                for label in np.unique(labels_HW[window]):
                    if label:
                        mask_HW = np.where(labels_HW[window] == label, np.uint8(255), np.uint8(0))
                        yield f"masks/{stem}/nucleus-{label:04d}.png", encode_array(mask_HW)[1]


def _image_member(stem: str, image_HWC: np.ndarray) -> tuple[str, bytes]:
    """Encode an image as PNG where it has 1 or 3 channels, else as NPY: a PNG's second or fourth channel is alpha."""
    if image_HWC.shape[-1] in (1, 3):
        return f"{stem}.png", encode_array(image_HWC)[1]
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(image_HWC), allow_pickle=False)
    return f"{stem}.npy", stream.getvalue()
