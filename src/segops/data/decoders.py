"""Decodes the bytes of a PNG, TIFF, JPEG, BMP or NPY file to an array, without losing a bit.

Axes: H height, W width, C samples per pixel (1 grey, 3 RGB, others channels; the last may be alpha).
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from segops.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Palette = Literal["colours", "indices"]
MAX_PIXELS = 2**30
MAX_CHANNELS = 64
DTYPES = ("uint8", "uint16", "int16", "float32")
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"\x93NUMPY": "NPY",
}
_PNG_PALETTE = 3
_PILLOW_MODES = ("L", "LA", "RGB", "RGBA")
_EXIF_ORIENTATION = 274
_TIFF_ALPHA = (1, 2)  # values of ExtraSamples: associated and unassociated


class Decoded(NamedTuple):
    """An image HWC, and whether its last channel is alpha."""

    array_HWC: np.ndarray
    alpha: bool


def decode(content: bytes, name: str, palette: Palette = "colours") -> Decoded:
    """Decode an image file by its first bytes, whatever its name ends in.

    int16 and float32 samples come from TIFF and NPY files and keep their values, such as HU. Samples below 8 bits are
    scaled to 0..255, and a TIFF in which 0 is white is inverted, as every viewer shows them. A palette whose colours
    are all grey gives grey values; another gives RGB or, with `palette="indices"`, the indices.

    Returns: an array of a type in DTYPES, HWC, C in 1..64.
    Raises: UserError naming `name` when the file is empty, damaged, or of a kind that isn't supported.
    """
    if not content:
        raise UserError(f"{name}: the file is empty; copy it again")
    kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
    if kind is None:
        raise UserError(
            f"{name}: not a PNG, TIFF, JPEG, BMP or NPY image (it begins with {content[:8]!r}); replace the file"
        )
    try:
        array_HWC, alpha = _decode(kind, content, name, palette)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders raise almost anything on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name}: damaged or truncated {kind} ({reason}); copy the file again") from None
    if array_HWC.ndim == 2:
        array_HWC = array_HWC[..., None]
    if 0 in array_HWC.shape:
        raise UserError(f"{name}: the image has no pixels; replace the file")
    if array_HWC.dtype.kind == "f" and not np.isfinite(array_HWC).all():
        raise UserError(f"{name}: holds values that aren't numbers (NaN or infinite); replace them in the file")
    return Decoded(np.ascontiguousarray(array_HWC), alpha)


def _decode(kind: str, content: bytes, name: str, palette: Palette) -> Decoded:
    """Decode a file of a known kind, and tell whether its last channel is alpha."""
    if kind == "TIFF":
        return _decode_tiff(content, name, palette)
    if kind == "NPY":
        return Decoded(_decode_npy(content, name), alpha=False)
    array = _decode_picture(kind, content, name, palette)
    return Decoded(array, array.ndim == 3 and array.shape[-1] in (2, 4))


def _decode_npy(content: bytes, name: str) -> np.ndarray:
    """Load an NPY file. Raises UserError for a type or shape that is no image's."""
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.name not in DTYPES:
        raise UserError(f"{name}: an array of {array.dtype.name}; save it as {', '.join(DTYPES)}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] > MAX_CHANNELS):
        raise UserError(
            f"{name}: an array of shape {array.shape}; save height x width, or height x width x up to {MAX_CHANNELS} "
            "channels"
        )
    _check_pixels(array.shape[0] * array.shape[1], name)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _decode_picture(kind: str, content: bytes, name: str, palette: Palette) -> np.ndarray:
    """Decode a PNG, JPEG or BMP; PNGs without a palette keep 16 bits."""
    if kind == "PNG":
        width, height = struct.unpack(">II", content[16:24])
        _check_pixels(width * height, name)
        if content[25] != _PNG_PALETTE:  # Pillow would silently reduce 16-bit RGB to 8
            import imagecodecs

            return np.asarray(imagecodecs.png_decode(content))
    return _decode_pillow(content, name, palette)


def _check_pixels(pixels: int, name: str) -> None:
    """Raise UserError for an image that is too large to read."""
    if pixels > MAX_PIXELS:
        raise UserError(f"{name}: {pixels:,} pixels; images up to {MAX_PIXELS:,} are read, cut it into tiles")


def _decode_pillow(content: bytes, name: str, palette: Palette) -> np.ndarray:
    """Decode with Pillow. Raises UserError for frames, turned images and unknown colour modes."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below validate.max_size_px squared; ours is checked next
    with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "BMP")) as image:
        _check_pixels(image.width * image.height, name)
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{name}: holds several frames; save one image per file")
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            raise UserError(f"{name}: its EXIF orientation asks viewers to turn it; save it upright")
        if image.mode == "P":
            return _expand_pillow(image, palette)
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        if image.mode not in _PILLOW_MODES:
            raise UserError(f"{name}: colour mode {image.mode} is not supported; save it as grey or RGB")
        return np.asarray(image)


def _expand_pillow(image: Image, palette: Palette) -> np.ndarray:
    """Expand a palette image to its colours, with alpha where an entry is transparent, or keep its indices."""
    indices_HW = np.asarray(image)
    colours = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    array_HWC = _expand(indices_HW, colours, palette)
    if palette == "colours" and array_HWC.shape[-1] == 3 and "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    return array_HWC


def _expand(indices_HW: np.ndarray, colours: np.ndarray, palette: Palette) -> np.ndarray:
    """Turn palette indices into grey or RGB values, or keep the indices where `palette` asks for them."""
    used: np.ndarray = np.unique(indices_HW)
    if used[-1] >= len(colours):
        raise ValueError(f"colour {used[-1]} is not in the palette of {len(colours)}")
    if (colours[used] == colours[used, :1]).all():
        colours = colours[:, :1]
    elif palette == "indices":
        return indices_HW
    expanded_HWC: np.ndarray = colours[indices_HW]
    return expanded_HWC


def _decode_tiff(content: bytes, name: str, palette: Palette) -> Decoded:
    """Decode a TIFF of one page, or of channels in several pages. Raises UserError for another kind."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page: Any = tiff.pages[0]
        stacked = len(tiff.pages) > 1
        if stacked and not (len(tiff.series) == 1 and tiff.series[0].axes == "CYX" and len(tiff.pages) <= MAX_CHANNELS):
            raise UserError(f"{name}: TIFF of {len(tiff.pages)} pages; save one plane per file")
        _check_pixels(page.imagelength * page.imagewidth, name)
        refusal = _tiff_refusal(page)
        if refusal:
            raise UserError(f"{name}: TIFF {refusal}; save it as grey, RGB or channels of {', '.join(DTYPES)}")
        if stacked:  # what ImageJ and OME call channels
            return Decoded(np.moveaxis(tiff.series[0].asarray(), 0, -1), alpha=False)
        array: np.ndarray = page.asarray()
        colourmap = page.colormap
        rgb = page.photometric.name in ("RGB", "YCBCR")
        alpha = bool(page.extrasamples) and (rgb or page.extrasamples[-1] in _TIFF_ALPHA)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    if page.photometric.name == "MINISWHITE":
        array = np.iinfo(array.dtype).max - array
    if page.photometric.name == "PALETTE":
        return Decoded(_expand(array, (colourmap.T >> 8).astype(np.uint8), palette), alpha=False)
    return Decoded(array.astype(array.dtype.newbyteorder("="), copy=False), alpha)


def _tiff_refusal(page: Any) -> str | None:
    """Return why a page can't be taken as an image, or None where it can."""
    known = {"MINISBLACK", "MINISWHITE", "RGB", "PALETTE"}
    if page.compression.name in ("JPEG", "OJPEG"):
        known.add("YCBCR")  # tifffile decodes these to RGB
    if page.dtype is None or page.dtype.name not in ("bool", *DTYPES):
        return f"of {page.dtype} samples"
    if page.bitspersample not in (1, 8, 16, 32):
        return f"of {page.bitspersample} bits per sample"
    if page.axes not in ("YX", "YXS", "SYX"):
        return f"with axes {page.axes}"
    if page.samplesperpixel > MAX_CHANNELS:
        return f"of {page.samplesperpixel} channels"
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric == "MINISWHITE" and page.dtype.name not in ("bool", "uint8", "uint16"):
        return f"of {page.dtype} samples in which 0 is white"
    return None if photometric in known else f"with colours as {photometric}"
