"""Decodes the bytes of an image file of any supported kind to an array, without losing a bit.

Axes: H height, W width, C samples per pixel (1 grey, 3 RGB, others channels; the last may be alpha).
"""

from __future__ import annotations

import numpy as np

from segops.data.decoders.arrays import decode_npy, decode_npz
from segops.data.decoders.decoded import Decoded, Reading
from segops.data.decoders.kinds import READ, VOLUME_SUFFIXES, VOLUMES, image_suffix, kind_of
from segops.data.decoders.ome_zarr import decode_ome_zarr
from segops.data.decoders.orientation import turned
from segops.data.decoders.pictures import decode_jpeg, decode_picture, decode_png
from segops.data.decoders.tiff import decode_tiff
from segops.errors import OneLineError, UserError
from segops.params.file_rules import FileRules

DEFAULT = FileRules()


def decode(content: bytes, name: str, reading: Reading = "image", rules: FileRules = DEFAULT) -> Decoded:
    """Decode an image file by its first bytes, whatever its name ends in.

    An image comes as viewers show it: samples below 8 bits scaled to 0..255, a TIFF in which 0 is white inverted, a
    palette's indices as colours. A mask read by `values` keeps what is stored: a palette's indices, and the samples of
    a TIFF in which 0 is white. Integers and floats keep their values.

    Returns: an array HWC, C in 1..64.
    Raises: UserError naming `name` when the file is empty, damaged, too large, or of a kind that isn't supported.
    """
    (decoded,) = _decoded(content, name, reading, rules, split=False)
    return decoded


def decode_planes(content: bytes, name: str, reading: Reading = "image", rules: FileRules = DEFAULT) -> list[Decoded]:
    """Decode the slices and frames of a TIFF, each as `decode` does; a file of another kind has one."""
    return _decoded(content, name, reading, rules, split=True)


def _decoded(content: bytes, name: str, reading: Reading, rules: FileRules, *, split: bool) -> list[Decoded]:
    """Decode a file's planes; what a decoder raises on damaged bytes becomes a line."""
    if not content:
        raise UserError(f"{name}: the file is empty; copy it again")
    kind = kind_of(content, name)
    if kind not in READ:
        if kind in VOLUMES or image_suffix(name) in VOLUME_SUFFIXES:
            raise UserError(f"{name}: {kind}, a volume; set ingest.dimensions: 3, or save a slice as PNG or TIFF")
        what = f"{kind}, which isn't read" if kind else f"not an image of a known kind (it begins with {content[:8]!r})"
        raise UserError(f"{name}: {what}; read are {', '.join(READ)}: save it as one of these")
    try:
        if kind == "TIFF":
            planes = decode_tiff(content, name, reading, rules.level, single=not split)
        elif kind == "OME-Zarr":
            level = rules.level if reading == "image" else None
            planes = decode_ome_zarr(content, name, level, single=not split)
        else:
            planes = [_decode(kind, content, name, reading)]
    except OneLineError:
        raise
    except MemoryError:
        raise UserError(f"{name}: too large for this machine's memory; cut it into tiles") from None
    except Exception as error:  # decoders raise almost anything on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged or truncated {kind} ({reason}); copy the file again") from None
    upright = [turned(plane, rules, name) for plane in planes]
    return [plane._replace(array_HWC=checked(plane.array_HWC, name)) for plane in upright]


def _decode(kind: str, content: bytes, name: str, reading: Reading) -> Decoded:
    """Decode a file of a known kind that holds one plane."""
    match kind:
        case "NPY":
            return decode_npy(content, name)
        case "NPZ":
            return decode_npz(content, name)
        case "PNG":
            return decode_png(content, name, reading)
        case "JPEG":
            return decode_jpeg(content, name)
    return decode_picture(content, name, reading)


def checked(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array HWC in native byte order. Raises UserError where it has no pixels, or NaN among its values."""
    array_HWC = array[..., None] if array.ndim == 2 else array
    if 0 in array_HWC.shape:
        raise UserError(f"{name}: the image has no pixels; replace the file")
    if array_HWC.dtype.kind == "f" and not np.isfinite(array_HWC).all():
        raise UserError(f"{name}: holds values that aren't numbers (NaN or infinite); replace them in the file")
    return np.ascontiguousarray(array_HWC, dtype=array_HWC.dtype.newbyteorder("="))
