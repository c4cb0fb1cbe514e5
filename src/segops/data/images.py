"""Turns image files into arrays, and arrays into files without losing a bit.

Axes: H height, W width, C channels (1 grey, 3 RGB, else modalities).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segops.data.decoders.decode import DEFAULT, decode, decode_planes
from segops.data.decoders.decoded import Decoded
from segops.data.decoders.kinds import SUFFIXES, VOLUME_SUFFIXES
from segops.errors import UserError
from segops.params.file_rules import FileRules

if TYPE_CHECKING:
    from segops.data.read_changes import ChangeLog

# The value that counts as 1. Signed and float images hold units of their own, such as HU, and keep them.
FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "int16": 1.0, "float32": 1.0}
UINT16_BITS = (8, 10, 12, 14, 16)  # that cameras and scanners use
OWN_UNITS = ("int16", "float32")
IMAGE_SUFFIXES = frozenset(SUFFIXES)
PICTURE_SUFFIXES = IMAGE_SUFFIXES - set(VOLUME_SUFFIXES)
_EXACT_IN_FLOAT32 = 2**24
_PNG_DTYPES = ("uint8", "uint16")
_PNG_CHANNELS = (2, 3, 4)


def full_scale(dtype: str, uint16_bits: int) -> float:
    """Return the value that counts as 1 in images of a type, whose 16-bit samples use so many bits."""
    return float(2**uint16_bits - 1) if dtype == "uint16" else FULL_SCALE[dtype]


def bits_of(highest: int) -> int:
    """Return how many bits an instrument that gives such a highest 16-bit value uses."""
    return next(bits for bits in UINT16_BITS if highest < 2**bits)


def read_image(content: bytes, name: str, changes: ChangeLog | None = None, rules: FileRules = DEFAULT) -> np.ndarray:
    """Decode an image file.

    Grey, RGB, a palette, and either with an alpha channel that is constant, which is dropped; TIFF, NPY and NPZ also
    with up to 64 channels. Samples become the next type of FULL_SCALE that holds them, always the same for a type:
    8-bit signed ones int16, longer integers and other floats float32.

    Args:
        content: the file's bytes.
        name: the file's name for messages.
        changes: receives a note of what isn't as the file stores it, such as an image that was turned upright.
        rules: how files that ask for it are turned, and the level of a pyramid.

    Returns: HWC of a type in FULL_SCALE, which says what counts as 1.
    Raises: UserError naming the file: empty, damaged, not an image, several pages, a varying alpha, integers that
        float32 doesn't hold.
    """
    decoded = decode(content, name, rules=rules)
    return kept_samples(without_alpha(decoded, name, changes), name, changes)


def read_planes(
    content: bytes, name: str, changes: ChangeLog | None = None, rules: FileRules = DEFAULT
) -> list[np.ndarray]:
    """Decode the slices and frames of a file, each as `read_image` does an image."""
    planes = decode_planes(content, name, rules=rules)
    return [kept_samples(without_alpha(plane, name, changes), name, changes) for plane in planes]


def read_stack(
    read: Callable[[str], bytes],
    names: Sequence[str],
    changes: ChangeLog | None = None,
    rules: FileRules = DEFAULT,
) -> np.ndarray:
    """Decode the files of an image, each of which holds some of its channels, and stack them in order.

    Args:
        read: a file's bytes by name.
        names: the files, at least 1.

    Returns: as `read_image`.
    Raises: UserError naming the file that differs from the first in size or type, or as `read_image` does.
    """
    first, *others = (read_image(read(name), name, changes, rules) for name in names)
    for name, other in zip(names[1:], others, strict=True):
        if other.shape[:2] != first.shape[:2] or other.dtype != first.dtype:
            raise UserError(
                f"{name}: {other.dtype} of {other.shape[0]}x{other.shape[1]} pixels, but {names[0]} is {first.dtype} "
                f"of {first.shape[0]}x{first.shape[1]}; channels of an image need one size and type"
            )
    return np.concatenate([first, *others], axis=-1) if others else first


def without_alpha(decoded: Decoded, name: str, changes: ChangeLog | None) -> np.ndarray:
    """Return a decoded file's array HWC without a constant alpha channel, and note what was changed in it.

    Raises: UserError where alpha varies: it would hide pixels.
    """
    array_HWC = decoded.array_HWC
    pixels = array_HWC.shape[0] * array_HWC.shape[1]
    if changes is not None:
        for change in decoded.changes:
            changes.add(change, name, pixels)
    if not decoded.alpha:
        return array_HWC
    alpha_HW = array_HWC[..., -1]
    low, high = int(alpha_HW.min()), int(alpha_HW.max())
    if low != high:
        raise UserError(
            f"{name}: its alpha channel varies ({low} to {high}); flatten the image and save it without alpha, or, of "
            f"a mask, say in ingest.mask_channel which channel holds it ({array_HWC.shape[-1] - 1} is alpha)"
        )
    if changes is not None:
        changes.add(f"alpha channel, all {low}, dropped", name, pixels)
    return np.ascontiguousarray(array_HWC[..., :-1])


def kept_samples(array_HWC: np.ndarray, name: str, changes: ChangeLog | None) -> np.ndarray:
    """Return samples of any type as one of FULL_SCALE, decided by the type alone so that all files agree.

    Raises: UserError for integers that float32 doesn't hold exactly, and floats beyond its range.
    """
    dtype = array_HWC.dtype.name
    if dtype in FULL_SCALE:
        return array_HWC
    if dtype == "bool":
        return array_HWC.astype(np.uint8) * np.uint8(255)
    if dtype == "int8":
        return array_HWC.astype(np.int16)
    with np.errstate(over="ignore"):
        kept_HWC = array_HWC.astype(np.float32)
    largest = max(-int(array_HWC.min()), int(array_HWC.max())) if array_HWC.dtype.kind in "iu" else 0
    if largest > _EXACT_IN_FLOAT32:
        raise UserError(
            f"{name}: {dtype} values beyond {_EXACT_IN_FLOAT32:,}, which float32 doesn't hold; rescale them"
        )
    if not np.isfinite(kept_HWC).all():
        raise UserError(f"{name}: {dtype} values beyond float32's range; rescale them")
    if changes is not None and dtype != "float16":
        changes.add(f"{dtype} samples kept as float32", name, kept_HWC.shape[0] * kept_HWC.shape[1])
    return kept_HWC


def encode_array(array: np.ndarray, *, volume: bool = False) -> tuple[str, bytes]:
    """Encode an array losslessly: PNG where it can hold it (HW or HWC, uint8 or uint16, C in 1..4), else NPY.

    Args:
        volume: NPY in any case, since an array DHW would pass as a picture.

    Returns: the suffix without a dot, and the bytes; equal arrays give equal bytes.
    """
    import imagecodecs

    if array.ndim == 3 and array.shape[-1] == 1 and not volume:
        array = array[..., 0]
    array = array.copy(order="C")  # the encoder refuses odd strides, even of axes of length 1
    if (
        not volume
        and array.dtype.name in _PNG_DTYPES
        and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in _PNG_CHANNELS))
    ):
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
