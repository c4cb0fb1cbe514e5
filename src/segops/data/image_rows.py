"""Opens an image to read its rows: a small one from memory, a large one from a file of its plain pixels.

A large file whose format lets parts be decoded by themselves is decoded once, band by band, into a temporary file
without a name, so that its rows can be read in any order as often as they are needed.

Axes: H height, W width, C channels; h rows of a band.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from segops.data.decoders.bands import bands_of
from segops.data.decoders.decode import checked
from segops.data.decoders.decoded import Bands, Decoded
from segops.data.images import kept_samples, read_stack, without_alpha
from segops.data.sources.source import read_member
from segops.errors import OneLineError, UserError
from segops.params.file_rules import FileRules

LARGE_PX = 2**24  # from here on a file is decoded band by band


@dataclass(frozen=True)
class ImageRows:
    """An image H, W, C of a type in FULL_SCALE, whose rows are read when they are asked for.

    Attributes:
        read: from the first row and the one after the last to an array hWC.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], npt.NDArray[Any]]

    @classmethod
    def of(cls, image_HWC: npt.NDArray[Any]) -> ImageRows:
        """Take rows of an image in memory."""
        height, width, channels = image_HWC.shape
        return cls(height, width, channels, image_HWC.dtype, lambda first, last: image_HWC[first:last])

    def whole(self) -> npt.NDArray[Any]:
        """Read the image as a whole."""
        return self.read(0, self.height)


@contextmanager
def open_rows(
    paths: tuple[Path, ...], rules: FileRules, scratch: Path, large_px: int = LARGE_PX
) -> Iterator[ImageRows]:
    """Open the image in a file, or in a file for each channel, as `read_stack` reads it.

    Args:
        scratch: the folder in which the file of a large image's pixels lies meanwhile; made where it is missing.

    Raises: UserError naming a file that can't be read.
    """
    bands = bands_of(paths[0], rules) if len(paths) == 1 else None
    if bands is None or bands.height * bands.width <= large_px:
        yield ImageRows.of(read_stack(lambda name: read_member(Path(name)), [str(path) for path in paths], rules=rules))
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch, prefix=".segops-") as file:
        yield _spooled(bands, file, str(paths[0]))


def _spooled(bands: Bands, file: IO[bytes], name: str) -> ImageRows:
    """Write an image's bands to a file one after another, and return rows that are read from it."""
    shape_WC, dtype, extremes, rows = (0, 0), np.dtype("u1"), [], 0
    for decoded in _decoded(bands, name):
        array_hWC = checked(decoded.array_HWC, name)
        if decoded.alpha:
            alpha_hW = array_hWC[..., -1]
            extremes.append(array_hWC.reshape(-1, array_hWC.shape[-1])[[alpha_hW.argmin(), alpha_hW.argmax()]])
            array_hWC = array_hWC[..., :-1]
        kept_hWC = np.ascontiguousarray(kept_samples(array_hWC, name, None))
        shape_WC, dtype, rows = (kept_hWC.shape[1], kept_hWC.shape[2]), kept_hWC.dtype, rows + len(kept_hWC)
        file.write(kept_hWC.data)
    if extremes:
        without_alpha(Decoded(np.concatenate(extremes)[:, None], alpha=True), name, None)  # refuses alpha that varies
    file.flush()
    row = math.prod(shape_WC)

    def read(first: int, last: int) -> npt.NDArray[Any]:
        file.seek(first * row * dtype.itemsize)
        return np.fromfile(file, dtype, (last - first) * row).reshape(last - first, *shape_WC)

    assert (rows, shape_WC[0]) == (bands.height, bands.width), "bands make up the image"
    return ImageRows(rows, *shape_WC, dtype, read)


def _decoded(bands: Bands, name: str) -> Iterator[Decoded]:
    """Decode bands; what a decoder raises on damaged bytes becomes a line."""
    try:
        yield from bands.bands()
    except (OneLineError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged or truncated ({reason}); copy the file again") from None
