"""Turns image files into arrays, and arrays into files without losing a bit.

Axes: H height, W width, C channels (1 grey, 3 RGB, else modalities).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segops.data.decoders import Decoded, decode
from segops.errors import UserError

if TYPE_CHECKING:
    from segops.data.read_changes import ChangeLog

# The value that counts as 1. Signed and float images hold units of their own, such as HU, and keep them.
FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "int16": 1.0, "float32": 1.0}
OWN_UNITS = ("int16", "float32")
IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy"})
_PNG_DTYPES = ("uint8", "uint16")
_PNG_CHANNELS = (2, 3, 4)


def read_image(content: bytes, name: str, changes: ChangeLog | None = None) -> np.ndarray:
    """Decode an image file.

    8- and 16-bit PNG and TIFF, JPEG and BMP; grey, RGB, palette, and either with an alpha channel that is constant,
    which is dropped. TIFF and NPY also with int16 and float32 samples, and with up to 64 channels.

    Args:
        content: the file's bytes.
        name: the file's name for messages.
        changes: receives a note of a dropped alpha channel.

    Returns: HWC of a type in FULL_SCALE, which says what counts as 1.
    Raises: UserError naming the file: empty, damaged, not an image, several pages, other samples, a varying alpha.
    """
    return drop_alpha(decode(content, name), name, changes)


def read_stack(read: Callable[[str], bytes], names: Sequence[str], changes: ChangeLog | None = None) -> np.ndarray:
    """Decode the files of an image, each of which holds some of its channels, and stack them in order.

    Args:
        read: a file's bytes by name.
        names: the files, at least 1.

    Returns: as `read_image`.
    Raises: UserError naming the file that differs from the first in size or type, or as `read_image` does.
    """
    first, *others = (read_image(read(name), name, changes) for name in names)
    for name, other in zip(names[1:], others, strict=True):
        if other.shape[:2] != first.shape[:2] or other.dtype != first.dtype:
            raise UserError(
                f"{name}: {other.dtype} of {other.shape[0]}x{other.shape[1]} pixels, but {names[0]} is {first.dtype} "
                f"of {first.shape[0]}x{first.shape[1]}; channels of an image need one size and type"
            )
    return np.concatenate([first, *others], axis=-1) if others else first


def drop_alpha(decoded: Decoded, name: str, changes: ChangeLog | None) -> np.ndarray:
    """Drop a constant alpha channel. Raises UserError where it varies: it would hide pixels."""
    array_HWC = decoded.array_HWC
    if not decoded.alpha:
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
    if array.dtype.name in _PNG_DTYPES and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _PNG_CHANNELS)):
        return "png", bytes(imagecodecs.png_encode(array, level=3))
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return "npy", stream.getvalue()


def decode_array(suffix: str, content: bytes) -> np.ndarray:
    """Decode what `encode_array` encoded; grey comes back as HW."""
    import imagecodecs

    if suffix == "png":
        return np.asarray(imagecodecs.png_decode(content))
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array
