"""Images as arrays: what a file may hold, and how an array is kept without losing a bit.

Axes: H height, W width, C channels (1 grey, 3 RGB).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from segops.data.decoders import decode
from segops.errors import UserError

if TYPE_CHECKING:
    from segops.data.changes import ChangeLog

FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}
IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})
_PNG_CHANNELS = (2, 3, 4)


def read_image(content: bytes, name: str, changes: ChangeLog | None = None) -> np.ndarray:
    """Decode an image file.

    8- and 16-bit PNG and TIFF, JPEG and BMP; grey, RGB, palette, and either with an alpha channel that is constant,
    which is dropped.

    Args:
        content: the file's bytes.
        name: the file's name for messages.
        changes: told of a dropped alpha channel.

    Returns: HWC uint8 or uint16, C in 1, 3; full scale is FULL_SCALE of its dtype.
    Raises: UserError naming the file: empty, damaged, not an image, several pages, float, a varying alpha.
    """
    return drop_alpha(decode(content, name), name, changes)


def drop_alpha(array_HWC: np.ndarray, name: str, changes: ChangeLog | None) -> np.ndarray:
    """Drop a constant alpha channel (C 2 or 4). Raises UserError where it varies: it would hide pixels."""
    if array_HWC.shape[-1] not in (2, 4):
        return array_HWC
    alpha_HW = array_HWC[..., -1]
    low, high = int(alpha_HW.min()), int(alpha_HW.max())
    if low != high:
        raise UserError(
            f"{name}: its alpha channel varies ({low} to {high}); flatten the image and save it without alpha"
        )
    if changes is not None:
        changes.add(f"alpha channel, all {low}, dropped", name, alpha_HW.size)
    return np.ascontiguousarray(array_HWC[..., :-1])


def encode_array(array: np.ndarray) -> tuple[str, bytes]:
    """Encode an array losslessly: PNG where it can hold it (HW or HWC, uint8 or uint16, C in 1..4), else NPY.

    Returns: the suffix without a dot, and the bytes; equal arrays give equal bytes.
    """
    import imagecodecs

    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    array = array.copy(order="C")  # the encoder refuses odd strides, even of axes of length 1
    if array.dtype.name in FULL_SCALE and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _PNG_CHANNELS)):
        return "png", bytes(imagecodecs.png_encode(array, level=3))
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return "npy", stream.getvalue()


def decode_array(suffix: str, content: bytes) -> np.ndarray:
    """The array that `encode_array` encoded; grey comes back as HW."""
    import imagecodecs

    if suffix == "png":
        return np.asarray(imagecodecs.png_decode(content))
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array
