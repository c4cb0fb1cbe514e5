"""Decodes the formats of pictures: PNG, JPEG, BMP, GIF, WebP and JPEG 2000."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from segops.data.decoders import orientation
from segops.data.decoders.bounds import DEFLATE_RATIO, check_filled, check_size
from segops.data.decoders.decoded import UPRIGHT, Decoded, Reading
from segops.data.decoders.jpeg import check_jpeg, jpeg_pixels
from segops.data.decoders.palettes import by_palette
from segops.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

_PNG_PALETTE = 3
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
_PNG_EXIF = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # keywords of texts that hold an orientation, too
_MODES = ("L", "LA", "RGB", "RGBA")
# Pixels that a byte gives at most: BMP's run of 255 in two bytes, GIF's string of 4095 in a code of 12 bits.
_RATIO = {"BMP": 128, "GIF": 2731}


def decode_png(content: bytes, name: str, reading: Reading) -> Decoded:
    """Decode a PNG; without a palette it keeps 16 bits."""
    width, height, bits, colour_type = struct.unpack(">IIBB", content[16:26])
    bytes_per_pixel = PNG_SAMPLES.get(colour_type, 4) * bits / 8
    check_size(height, width, name, bytes_per_pixel=max(1, bytes_per_pixel))
    check_filled(height * width * bytes_per_pixel, len(content), name, ratio=DEFLATE_RATIO)
    chunks = dict(png_chunks(content))
    if b"acTL" in chunks and int.from_bytes(chunks[b"acTL"][:4], "big") > 1:
        raise UserError(f"{name}: holds several frames; save one image per file")
    if colour_type == _PNG_PALETTE:
        return decode_picture(content, name, reading)
    import imagecodecs

    array = np.asarray(imagecodecs.png_decode(content))  # Pillow would silently reduce 16-bit RGB to 8
    decoded = Decoded(array, _ends_in_alpha(array))
    if any(may_turn(kind, begin) for kind, begin in chunks.items()):
        with _open(content) as image:
            return decoded._replace(orientation=_orientation(image))
    return decoded


def may_turn(kind: bytes, begin: bytes) -> bool:
    """Return whether a PNG's chunk, by its kind and first bytes, may hold an orientation."""
    return kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and begin.startswith(_PNG_EXIF))


def decode_jpeg(content: bytes, name: str) -> Decoded:
    """Decode a JPEG; damaged data, over which viewers pass, is an error. A camera's MPO gives its first picture."""
    with _open(content) as image:
        check_size(image.height, image.width, name, bytes_per_pixel=len(image.getbands()))
        if image.mode not in ("L", "RGB"):
            raise UserError(f"{name}: colour mode {image.mode} is not supported; save it as grey or RGB")
        check_jpeg(content, name, image.height, image.width)
        decoded = Decoded(jpeg_pixels(content, grey=image.mode == "L"))
        pictures = getattr(image, "n_frames", 1)
        if pictures > 1:
            decoded = decoded.changed(decoded.array_HWC, f"the first of a camera's {pictures} pictures (MPO) taken")
        return decoded._replace(orientation=_orientation(image))


def decode_picture(content: bytes, name: str, reading: Reading) -> Decoded:
    """Decode a BMP, GIF, WebP, JPEG 2000, or PNG with a palette. Raises UserError for frames and other colour modes."""
    with _open(content) as image:
        check_size(image.height, image.width, name, bytes_per_pixel=len(image.getbands()))
        if image.format in _RATIO:
            check_filled(image.height * image.width / 8, len(content), name, ratio=_RATIO[image.format])
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{name}: holds several frames; save one image per file")
        return _pixels(image, content, name, reading)._replace(orientation=_orientation(image))


def _pixels(image: Image, content: bytes, name: str, reading: Reading) -> Decoded:
    """Return the pixels of an opened picture. Raises UserError for a colour mode that isn't known."""
    if image.mode == "P":
        return by_palette(np.asarray(image), _palette(image, reading), reading)
    if image.format == "JPEG2000":
        import imagecodecs

        array = np.asarray(imagecodecs.jpeg2k_decode(content))  # keeps all bits, as Pillow doesn't
        return Decoded(array, image.mode in ("LA", "RGBA"))
    if image.mode == "1":
        return Decoded(np.asarray(image.convert("L")))
    if image.mode not in _MODES:
        raise UserError(f"{name}: colour mode {image.mode} is not supported; save it as grey or RGB")
    array = np.asarray(image)
    return Decoded(array, _ends_in_alpha(array))


def _orientation(image: Image) -> object:
    """Return the orientation that a picture's Exif or XMP asks for."""
    return image.getexif().get(orientation.TAG, UPRIGHT)


def _open(content: bytes) -> Image:
    """Open a file with Pillow, which reads its header alone."""
    from PIL import Image, Jpeg2KImagePlugin, WebPImagePlugin  # noqa: F401  (their import registers them)

    Image.preinit()
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below validate.max_size_px squared; `check_size` has ours
    return Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "BMP", "GIF", "WEBP", "JPEG2000"))


def _palette(image: Image, reading: Reading) -> np.ndarray:
    """Return a picture's palette, RGB, or RGBA where a colour that viewers show is transparent."""
    image.load()
    transparent = "transparency" in image.info and reading != "values"
    mode = "RGBA" if transparent else "RGB"
    if transparent:
        image.apply_transparency()
    entries = np.asarray(image.getpalette(mode), dtype=np.uint8).reshape(-1, len(mode))
    return entries[:, :3] if transparent and (entries[:, 3] == 255).all() else entries


def _ends_in_alpha(array: np.ndarray) -> bool:
    """Return whether a picture's last channel is alpha: it has 2 or 4."""
    return array.ndim == 3 and array.shape[-1] in (2, 4)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the first 64 bytes of each chunk of a PNG, as far as its lengths lead."""
    start = 8
    while start + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[start : start + 8])
        yield kind, content[start + 8 : start + 8 + min(length, 64)]
        start += 12 + length
