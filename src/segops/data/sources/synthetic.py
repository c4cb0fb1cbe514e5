"""Draws `synthetic://nuclei`, the images of a procedural microscope, so that the whole graph runs without a download.

A field of view is drawn once, twice as high and wide as an image, and cut into four tiles, so that nuclei cross tile
borders and the tiles of a field are a group. With `tiles=2` only the upper two are kept: more groups of fewer images.
Two fields in three look like fluorescence, the third like stained tissue. Field k depends on the seed and k alone.

With `channels=N` every field is fluorescence in N stains, as images of N channels.

Members are `images/field-<k>/tile-<t>.png` and `masks/field-<k>/tile-<t>/nucleus-<i>.png` (0 and 255, a nucleus
each): layout `pairs`.
"""

from __future__ import annotations

import difflib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from segops.data.images import encode_array
from segops.errors import UserError
from segops.progress import track

SCHEME = "synthetic"
_GENERATOR = "nuclei"
_FIGURES = 9
_RANGES = {"n": (1, 1_000_000), "size": (32, 2048), "seed": (0, 2**32 - 1), "channels": (0, 64), "tiles": (1, 4)}


@dataclass(frozen=True)
class Query:
    """What `synthetic://nuclei?n=..&size=..&seed=..` asks for.

    n: images; size: height and width of an image, pixels; seed: names the fields; channels: of each image, 0: 1 for
    fluorescence and 3 for stained tissue; tiles: images that are kept of a field.
    """

    n: int = 96
    size: int = 128
    seed: int = 0
    channels: int = 0
    tiles: int = 4

    @property
    def uri(self) -> str:
        """The source's URI, with what isn't the default."""
        stains = f"&channels={self.channels}" if self.channels else ""
        tiles = f"&tiles={self.tiles}" if self.tiles != Query.tiles else ""
        return f"{SCHEME}://{_GENERATOR}?n={self.n}&size={self.size}&seed={self.seed}{stains}{tiles}"


def parse(uri: str) -> Query:
    """Read a `synthetic://nuclei` URI. Raises UserError that names the wrong key or value and what would be right."""
    where = f"ingest.source: {uri}"
    parts = urlsplit(uri)
    if parts.scheme != SCHEME or parts.netloc != _GENERATOR or parts.path not in ("", "/") or parts.fragment:
        raise UserError(f"{where}: the only generator is {Query().uri}")
    known = [field.name for field in fields(Query)]
    values: dict[str, int] = {}
    for key, text in parse_qsl(parts.query, keep_blank_values=True):
        if key not in known:
            near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
            raise UserError(f"{where}: unknown key '{key}'; {hint}")
        if key in values:
            raise UserError(f"{where}: '{key}' stands there twice; keep one")
        low, high = _RANGES[key]
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= _FIGURES + 1 else -1
        if not low <= number <= high:
            raise UserError(f"{where}: {key} = '{text}' must be a whole number in {low}..{high}")
        values[key] = number
    return Query(**values)


def members(query: Query) -> Iterator[tuple[str, bytes]]:
    """Draw the fields in turn; yield names and encoded bytes of images and masks."""
    from segops.data.layouts.microscope import draw_field

    count = -(-query.n // query.tiles)
    for number in track(range(count), "drawing synthetic fields"):
        image_HWC, labels_HW = draw_field(number, 2 * query.size, query.seed, query.channels)
        for tile in range(min(query.tiles, query.n - number * query.tiles)):
            top, left = query.size * (tile // 2), query.size * (tile % 2)
            window = np.s_[top : top + query.size, left : left + query.size]
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


def write_archive(path: Path, query: Query) -> None:
    """Write the members to an uncompressed tar; equal queries give equal bytes on machines of the same kind."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members(query):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
