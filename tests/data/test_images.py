import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segops.data.decoders import bounds, palettes
from segops.data.images import FULL_SCALE, IMAGE_SUFFIXES, decode_array, encode_array, read_image
from segops.errors import UserError
from tests.support.image_files import npy, pillow, png, tiff

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY_16 = RNG.integers(0, 65536, (5, 7), np.uint16)
RGB_16 = RNG.integers(0, 65536, (5, 7, 3), np.uint16)
FULL_8 = np.full((5, 7, 1), 255, np.uint8)
FULL_16 = np.full((5, 7, 1), 65535, np.uint16)


LOSSLESS = {
    "PNG grey": (png(GREY), GREY[..., None]),
    "PNG RGB": (png(RGB), RGB),
    "PNG grey 16": (png(GREY_16), GREY_16[..., None]),
    "PNG RGB 16": (png(RGB_16), RGB_16),
    "PNG RGBA opaque": (png(np.concatenate([RGB, FULL_8], -1)), RGB),
    "PNG RGBA 16 opaque": (png(np.concatenate([RGB_16, FULL_16], -1)), RGB_16),
    "PNG RGBA wholly transparent": (png(np.concatenate([RGB, 0 * FULL_8], -1)), RGB),
    "PNG LA opaque": (png(np.concatenate([GREY[..., None], FULL_8], -1)), GREY[..., None]),
    "PNG 1 bit": (pillow(GREY > 99, "PNG"), np.where(GREY > 99, 255, 0)[..., None]),
    "BMP grey": (pillow(GREY, "BMP"), GREY[..., None]),
    "BMP RGB": (pillow(RGB, "BMP"), RGB),
    "BMP 1 bit": (pillow(GREY > 99, "BMP"), np.where(GREY > 99, 255, 0)[..., None]),
    "TIFF grey": (tiff(GREY), GREY[..., None]),
    "TIFF RGB": (tiff(RGB, photometric="rgb"), RGB),
    "TIFF RGB by planes": (tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
    "TIFF grey 16 big-endian": (tiff(GREY_16, byteorder=">"), GREY_16[..., None]),
    "TIFF RGB 16 LZW": (tiff(RGB_16, photometric="rgb", compression="lzw"), RGB_16),
    "TIFF RGBA opaque": (tiff(np.concatenate([RGB, FULL_8], -1), photometric="rgb", extrasamples=[2]), RGB),
    "TIFF white is 0": (tiff(GREY, photometric="miniswhite"), 255 - GREY[..., None]),
    "TIFF 1 bit": (tiff(GREY > 99, photometric="minisblack"), np.where(GREY > 99, 255, 0)[..., None]),
    "TIFF 1 bit white is 0": (tiff(GREY > 99, photometric="miniswhite"), np.where(GREY > 99, 0, 255)[..., None]),
    "BigTIFF": (tiff(GREY, bigtiff=True), GREY[..., None]),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_image_is_read_exactly(kind: str) -> None:
    content, expected = LOSSLESS[kind]
    image_HWC = read_image(content, "a")
    assert image_HWC.dtype == (np.uint16 if "16" in kind else np.uint8)
    np.testing.assert_array_equal(image_HWC, expected)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_read_as_pillow_reads_it(mode: str) -> None:
    content = pillow(RGB, "JPEG", mode)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_image(content, "a.jpg"), expected.reshape(5, 7, -1))


def palette_png(colours: list[int], **options: Any) -> bytes:
    image = Image.fromarray(GREY % 3, "P")
    image.putpalette(colours)
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def test_a_palette_is_expanded_to_its_colours() -> None:
    colours = np.array([[0, 0, 0], [200, 0, 0], [0, 100, 0]], np.uint8)
    content = palette_png(colours.ravel().tolist())
    np.testing.assert_array_equal(read_image(content, "a.png"), colours[GREY % 3])


def test_a_grey_palette_gives_one_channel() -> None:
    content = palette_png([10, 10, 10, 90, 90, 90, 200, 200, 200])
    np.testing.assert_array_equal(read_image(content, "a.png")[..., 0], np.array([10, 90, 200])[GREY % 3])


def test_a_palette_with_a_transparent_colour_is_refused() -> None:
    content = palette_png([0, 0, 0, 200, 0, 0, 0, 100, 0], transparency=1)
    with pytest.raises(UserError, match=r"a.png: its alpha channel varies"):
        read_image(content, "a.png")


@pytest.mark.parametrize("channels", [GREY[..., None], RGB])
def test_an_alpha_channel_that_varies_is_refused(channels: np.ndarray) -> None:
    content = png(np.concatenate([channels, GREY[..., None]], -1))
    with pytest.raises(UserError, match=rf"a.png: its alpha channel varies \({GREY.min()} to {GREY.max()}\); flatten"):
        read_image(content, "a.png")


HOUNSFIELD = RNG.integers(-1024, 3000, (5, 7), np.int16)
FLOAT = RNG.normal(size=(5, 7, 4)).astype(np.float32)
OTHER = {
    "TIFF of signed samples": (tiff(HOUNSFIELD), HOUNSFIELD[..., None]),
    "TIFF of float samples": (tiff(FLOAT[..., 0]), FLOAT[..., :1]),
    "TIFF of five channels": (
        tiff(np.dstack([GREY_16] * 5), photometric="minisblack", planarconfig="contig"),
        np.dstack([GREY_16] * 5),
    ),
    # Four channels that aren't RGB hold no alpha.
    "TIFF of four planes": (
        tiff(np.moveaxis(FLOAT, -1, 0), photometric="minisblack", planarconfig="separate"),
        FLOAT,
    ),
    "ImageJ's channels": (
        tiff(np.stack([GREY, GREY.copy() // 2]), imagej=True, metadata={"axes": "CYX"}),
        np.dstack([GREY, GREY // 2]),
    ),
    "NPY grey": (npy(GREY), GREY[..., None]),
    "NPY big-endian": (npy(HOUNSFIELD.astype(">i2")), HOUNSFIELD[..., None]),
    "NPY of four channels": (npy(FLOAT), FLOAT),
}


@pytest.mark.parametrize("kind", OTHER)
def test_other_types_and_channel_counts_are_kept_as_they_are(kind: str) -> None:
    content, expected = OTHER[kind]
    image_HWC = read_image(content, "a")
    assert image_HWC.dtype == expected.dtype
    np.testing.assert_array_equal(image_HWC, expected)
    suffix, encoded = encode_array(image_HWC)
    np.testing.assert_array_equal(decode_array(suffix, encoded).reshape(expected.shape), expected)


UNSUPPORTED = {
    "several pages": (tiff(np.stack([GREY, GREY]), photometric="minisblack"), "TIFF of 2 pages"),
    "complex": (tiff(GREY.astype(np.complex64)), "of complex64 samples"),
    "not a number": (tiff(np.full((4, 5), np.nan, np.float32)), "values that aren't numbers"),
    "65 channels": (tiff(np.dstack([GREY] * 65), photometric="minisblack", planarconfig="contig"), "of 65 channels"),
    "complex NPY": (npy(GREY.astype(np.complex64)), "an array of complex64"),
    "channels first NPY": (npy(np.zeros((3, 9, 99), np.uint8)), "an array of shape (3, 9, 99)"),
    "pickled NPY": (npy(np.array([{}])), "an array of Python objects"),
    "CMYK": (tiff(np.dstack([GREY] * 4), photometric="separated"), "with colours as SEPARATED"),
    "CMYK JPEG": (pillow(RGB, "JPEG", "CMYK"), "colour mode CMYK"),
    "text": (b"not an image\n", "not an image of a known kind (it begins with b'not an i')"),
    "nothing": (b"", "the file is empty"),
    "moving PNG": (
        pillow(GREY, "PNG", "P", save_all=True, append_images=[Image.fromarray(GREY.T.copy())]),
        "holds several frames",
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_an_unsupported_file_is_one_line_that_names_it(kind: str) -> None:
    content, message = UNSUPPORTED[kind]
    with pytest.raises(UserError) as error:
        read_image(content, "images/a.png")
    assert str(error.value).startswith("images/a.png: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [name for name in LOSSLESS if "1 bit" not in name] + ["JPEG"])
@pytest.mark.parametrize("left", [0.2, 0.6, 0.9])
def test_a_truncated_file_is_one_line_that_names_it(kind: str, left: float) -> None:
    noise = RNG.integers(0, 256, (64, 64), np.uint8)
    content = {"PNG": png(noise), "BMP": pillow(noise, "BMP"), "JPEG": pillow(noise, "JPEG")}.get(
        kind.split()[0], tiff(noise, compression="zlib" if "RGB" in kind else None)
    )
    with pytest.raises(UserError, match=r"^a: damaged or truncated"):
        read_image(content[: int(left * len(content))], "a")


def test_a_flipped_bit_in_a_png_is_found() -> None:
    content = bytearray(png(RGB))
    content[len(content) // 2] ^= 1
    with pytest.raises(UserError, match="damaged"):
        read_image(bytes(content), "a.png")


def test_a_png_that_claims_an_absurd_size_is_refused_before_it_is_unpacked() -> None:
    header = struct.pack(">IIBBBBB", 2**20, 2**20, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(UserError, match=r"1,099,511,627,776 pixels"):
        read_image(content, "a.png")


@given(
    st.sampled_from(["uint8", "uint16"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3, 4]),
    st.binary(),
)
def test_what_png_can_hold_comes_back_equal(dtype: str, height: int, width: int, channels: int, noise: bytes) -> None:
    rng = np.random.default_rng(list(noise))
    array = rng.integers(0, int(FULL_SCALE[dtype]) + 1, (height, width, channels), dtype)
    suffix, content = encode_array(array)
    assert suffix == "png"
    back = decode_array(suffix, content)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.reshape(array.shape), array)


def test_what_png_cannot_hold_comes_back_equal_from_npy() -> None:
    for array in (RNG.integers(0, 9, (4, 5, 6), np.uint16), GREY.astype(np.float32)):
        suffix, content = encode_array(array)
        assert suffix == "npy"
        np.testing.assert_array_equal(decode_array(suffix, content), array)


def test_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize("write", [npy, tiff])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_one_value_that_is_no_number_among_many_is_found(write: Callable[[np.ndarray], bytes], wrong: float) -> None:
    array = GREY.astype(np.float32)
    np.testing.assert_array_equal(read_image(write(array), "a")[..., 0], array)
    array[2, 3] = wrong
    with pytest.raises(UserError, match=r"a: holds values that aren't numbers"):
        read_image(write(array), "a")


@pytest.mark.parametrize("shape", [(2**15 + 1, 2**15), (2**15, 2**15 + 1)])
def test_a_tiff_that_claims_an_absurd_size_is_refused_before_it_is_unpacked(shape: tuple[int, int]) -> None:
    content = bytearray(tiff(np.zeros((3, 5), np.uint8)))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        tags = file.pages[0].tags
        for name, value in zip(("ImageLength", "ImageWidth"), shape, strict=True):
            at = tags[name].valueoffset
            content[at : at + 2 * (tags[name].dtype.name == "SHORT") + 4 * (tags[name].dtype.name == "LONG")] = (
                struct.pack("<H", value) if tags[name].dtype.name == "SHORT" else struct.pack("<I", value)
            )
    with pytest.raises(UserError, match=r"1,073,774,592 pixels"):
        read_image(bytes(content), "a.tif")


def test_a_tiff_s_palette_is_16_bit_and_the_high_bytes_are_its_colours() -> None:
    colours = np.array([[0, 0, 0], [200, 1, 0], [0, 100, 255]])
    colourmap = np.zeros((3, 256), np.uint16)
    colourmap[:, :3] = colours.T * 256 + 77
    content = tiff(GREY % 3, photometric="palette", colormap=colourmap)
    np.testing.assert_array_equal(read_image(content, "a.tif"), colours[GREY % 3])


def test_an_index_beyond_the_palette_is_told() -> None:
    with pytest.raises(ValueError, match="colour 2 is not in the palette of 2"):
        palettes.by_palette(np.array([[0, 2]], np.uint8), np.array([[0, 0, 0], [9, 9, 9]], np.uint8), "image")


@pytest.mark.parametrize("kind", ["BMP", "JPEG"])
def test_each_kind_of_file_has_at_most_a_gibipixel(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_PIXELS", 35)
    assert read_image(pillow(GREY, kind), "a").shape == (5, 7, 1)
    monkeypatch.setattr(bounds, "MAX_PIXELS", 34)
    with pytest.raises(UserError, match=r"^a: 35 pixels; images up to 34 are read, cut it into tiles$"):
        read_image(pillow(GREY, kind), "a")


@pytest.mark.parametrize("kind", [1, 2])
def test_a_tiff_s_associated_and_unassociated_alpha_are_alpha(kind: int) -> None:
    grey_and_alpha = np.dstack([GREY, FULL_8])
    content = tiff(grey_and_alpha, photometric="minisblack", planarconfig="contig", extrasamples=[kind])
    np.testing.assert_array_equal(read_image(content, "a"), GREY[..., None])
    grey_and_alpha = np.dstack([GREY, GREY])
    with pytest.raises(UserError, match="alpha"):
        read_image(tiff(grey_and_alpha, photometric="minisblack", planarconfig="contig", extrasamples=[kind]), "a")


@pytest.mark.parametrize("write", [npy, partial(tiff, photometric="minisblack", planarconfig="contig")])
def test_an_image_may_have_64_channels(write: Callable[[np.ndarray], bytes]) -> None:
    channels = np.dstack([GREY] * 64)
    np.testing.assert_array_equal(read_image(write(channels), "a"), channels)


def test_an_array_without_pixels_is_refused() -> None:
    for shape in ((0, 5), (5, 0), (5, 7, 0)):
        with pytest.raises(UserError, match="the image has no pixels; replace the file"):
            read_image(npy(np.zeros(shape, np.uint8)), "empty.npy")
