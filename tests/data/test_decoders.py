"""What instruments and libraries write: each file is read as it is meant, or refused in a line, and never guessed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from segops.data.decoders.decode import decode
from segops.data.decoders.kinds import SUFFIXES, UNREAD_SUFFIXES
from segops.data.images import read_image
from segops.data.masks import read_mask
from segops.data.read_changes import ChangeLog
from segops.errors import UserError
from segops.params.file_rules import FileRules
from segops.pictures.images import png as our_png
from tests.support.image_files import npy, pillow, tiff

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 40), np.uint8)
RGB = RNG.integers(0, 256, (24, 40, 3), np.uint8)
MASK = np.zeros((24, 40), np.uint8)
MASK[3:9, 5:30] = 1


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 3)
    return np.asarray((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def turned_png(array: np.ndarray, orientation: int) -> bytes:
    """A PNG with an eXIf chunk behind its pixels, where the standard allows it, too."""
    content = pillow(array, "PNG")
    return content[:-12] + png_chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0")) + content[-12:]


TURNED: dict[str, Callable[[int], bytes]] = {
    "PNG": lambda orientation: pillow(RGB, "PNG", exif=exif(orientation)),
    "PNG, exif last": lambda orientation: turned_png(RGB, orientation),
    "PNG with a palette": lambda orientation: pillow(Image.fromarray(RGB).quantize(9), "PNG", exif=exif(orientation)),
    "JPEG": lambda orientation: pillow(RGB, "JPEG", exif=exif(orientation)),
    "WebP": lambda orientation: pillow(RGB, "WEBP", lossless=True, exif=exif(orientation)),
    "TIFF": lambda orientation: tiff(RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)]),
    "TIFF by planes": lambda orientation: tiff(
        np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", extratags=[(274, 3, 1, orientation, True)]
    ),
}


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", TURNED)
def test_an_image_is_turned_as_viewers_show_it(kind: str, orientation: int) -> None:
    content, changes, turn = TURNED[kind](orientation), ChangeLog(), FileRules(orientation="turn")
    # Pillow turns a TIFF when it loads it, and others when asked.
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    if kind == "TIFF by planes":
        shown = ImageOps.exif_transpose(Image.open(io.BytesIO(TURNED["TIFF"](orientation))))
    np.testing.assert_array_equal(read_image(content, "a", changes, turn), np.asarray(shown))
    asks = 2 <= orientation <= 8
    assert bool(changes.entries()) == asks
    if asks:
        with pytest.raises(UserError, match=rf"^a: its orientation tag {orientation} asks viewers to show it"):
            read_image(content, "a")


def test_a_mask_is_turned_or_kept_as_stored_as_its_image_is() -> None:
    stored, changes = MASK[::-1, ::-1].copy(), ChangeLog()
    content = tiff(stored, extratags=[(274, 3, 1, 3, True)])
    np.testing.assert_array_equal(read_mask(content, "a.tif", changes, FileRules(orientation="turn")), MASK)
    np.testing.assert_array_equal(read_mask(content, "a.tif", changes, FileRules(orientation="stored")), stored)
    with pytest.raises(UserError, match=r"^a.tif: its orientation tag 3 asks viewers to show it turned by 180 degrees"):
        read_mask(content, "a.tif", changes)
    assert [entry.change for entry in changes.entries()] == [
        "kept as stored, against orientation tag 3",
        "turned by 180 degrees, as its orientation tag 3 asks",
    ]


PLANES = np.stack([GREY, GREY // 2, GREY // 3])
STACKS = {
    "several pages": tiff(PLANES, photometric="minisblack"),
    "ImageJ slices": tiff(PLANES, imagej=True, metadata={"axes": "ZYX"}),
    "ImageJ slices, one directory": tiff(PLANES, imagej=True, truncate=True, metadata={"axes": "ZYX"}),
    "ImageJ frames, one directory": tiff(PLANES, imagej=True, truncate=True, metadata={"axes": "TYX"}),
    "planes, one directory": tiff(PLANES, photometric="minisblack", truncate=True),
    "OME slices": tiff(PLANES, ome=True, metadata={"axes": "ZYX"}),
    "OME slices and channels": tiff(np.stack([PLANES] * 2), ome=True, metadata={"axes": "ZCYX"}),
    "moving PNG": pillow(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())]),
    "moving GIF": pillow(GREY, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
    "moving WebP": pillow(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
}


@pytest.mark.parametrize("kind", STACKS)
def test_a_file_of_several_planes_is_refused_however_they_are_kept(kind: str) -> None:
    with pytest.raises(UserError, match=r"^a: (TIFF of \d+ pages or planes|holds several frames)"):
        read_image(STACKS[kind], "a")


def test_a_camera_s_second_picture_is_left_out_and_told() -> None:
    content, changes = pillow(RGB, "MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)]), ChangeLog()
    np.testing.assert_array_equal(read_image(content, "a.jpg", changes), np.asarray(Image.open(io.BytesIO(content))))
    assert "the first of a camera's 2 pictures (MPO) taken" in [entry.change for entry in changes.entries()]


def pyramid(**options: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(RGB, photometric="rgb", metadata=None, **options)
        for step in (2, 4):
            writer.write(RGB[::step, ::step], photometric="rgb", subfiletype=1, metadata=None)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"subifds": 2}], ids=["pages", "sub-directories"])
def test_a_level_of_a_pyramid_is_chosen(options: dict[str, Any]) -> None:
    for level, step in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(
            read_image(pyramid(**options), "a", rules=FileRules(level=level)), RGB[::step, ::step]
        )
    with pytest.raises(UserError, match=r"^a: ingest.level is 3, but the file has 3 levels, counted from 0; lower it"):
        read_image(pyramid(**options), "a", rules=FileRules(level=3))


def test_two_images_in_a_tiff_are_refused() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(GREY[:9, :9], photometric="minisblack")
    with pytest.raises(UserError, match=r"^a: TIFF of 2 pages that differ; save one image per file"):
        read_image(stream.getvalue(), "a")


def test_an_ome_tiff_whose_other_planes_are_elsewhere_is_refused() -> None:
    planes = "".join(
        f'<TiffData IFD="0" FirstC="{channel}"><UUID FileName="{channel}.tif">urn:uuid:{channel}</UUID></TiffData>'
        for channel in range(2)
    )
    description = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="40" SizeY="24" SizeZ="1" '
        f'SizeC="2" SizeT="1"><Channel ID="c0" SamplesPerPixel="1"/><Channel ID="c1" SamplesPerPixel="1"/>{planes}'
        "</Pixels></Image></OME>"
    )
    with pytest.raises(UserError, match=r"^a: a part of an OME-TIFF whose other planes are in files of their own"):
        read_image(tiff(GREY, description=description, metadata=None), "a")


INDICES = MASK.copy()
INDICES[12:20, 2:9] = 2


def palette_picture(kind: str, indices: np.ndarray, colours: list[list[int]]) -> bytes:
    if kind == "TIFF":
        colourmap = np.zeros((3, 256), np.uint16)
        colourmap[:, : len(colours)] = np.array(colours, np.uint16).T * 257
        return tiff(indices, photometric="palette", colormap=colourmap)
    image = Image.fromarray(indices, "P")
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return pillow(image, kind, optimize=False)


COLOURS = [[0, 0, 0], [255, 255, 255], [200, 30, 30]]


@pytest.mark.parametrize("used", [INDICES, MASK, 0 * MASK], ids=["all", "without the red", "black alone"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP"])
def test_a_palette_means_the_same_whatever_an_image_shows(kind: str, used: np.ndarray) -> None:
    content = palette_picture(kind, used, COLOURS)
    np.testing.assert_array_equal(read_mask(content, "a", ChangeLog()), used)
    np.testing.assert_array_equal(read_image(content, "a"), np.array(COLOURS, np.uint8)[used])


@pytest.mark.parametrize("colours", [[[0, 0, 0], [0, 0, 0], [255, 0, 0]], [[9, 9, 9], [8, 8, 8], [7, 7, 7]]])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_indices_of_equal_or_grey_colours_stay_apart_in_a_mask(kind: str, colours: list[list[int]]) -> None:
    np.testing.assert_array_equal(read_mask(palette_picture(kind, INDICES, colours), "a", ChangeLog()), INDICES)


@pytest.mark.parametrize("class_colours", [["#000000", "#ffffff", "#808080"], ["#000000", "#e69f00", "#e69f01"]])
def test_a_predicted_mask_is_read_back_as_it_was(class_colours: list[str]) -> None:
    for mask_HW in (INDICES, MASK, 0 * MASK):
        np.testing.assert_array_equal(read_mask(our_png(mask_HW, class_colours), "a", ChangeLog()), mask_HW)


def test_a_colormap_of_8_bits_is_scaled() -> None:
    colourmap = np.zeros((3, 256), np.uint16)
    colourmap[:, :3] = np.array(COLOURS).T
    content = tiff(INDICES, photometric="palette", colormap=colourmap)
    np.testing.assert_array_equal(read_image(content, "a"), np.array(COLOURS, np.uint8)[INDICES])


@pytest.mark.parametrize("mask_HW", [MASK > 0, MASK * 255], ids=["1 bit", "8 bits"])
def test_a_mask_in_which_0_is_white_keeps_its_stored_values(mask_HW: np.ndarray) -> None:
    content, changes = tiff(mask_HW, photometric="miniswhite"), ChangeLog()
    np.testing.assert_array_equal(read_mask(content, "a.tif", changes), MASK * 255)
    assert [entry.change for entry in changes.entries()] == ["0 is white in the file; its stored values kept"]


def test_an_image_in_which_0_is_white_is_inverted_and_told() -> None:
    changes = ChangeLog()
    np.testing.assert_array_equal(read_image(tiff(GREY, photometric="miniswhite"), "a", changes)[..., 0], 255 - GREY)
    assert [entry.change for entry in changes.entries()] == ["0 is white in the file; inverted, as viewers show it"]


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


KEPT = {
    "GIF": (pillow(GREY, "GIF"), GREY[..., None]),
    "WebP": (pillow(RGB, "WEBP", lossless=True), RGB),
    "JPEG 2000 grey": (pillow(GREY, "JPEG2000"), GREY[..., None]),
    "JPEG 2000 RGB": (pillow(RGB, "JPEG2000", irreversible=False), RGB),
    "JPEG 2000 of 16 bits": (pillow(GREY.astype(np.uint16) * 257, "JPEG2000"), GREY[..., None].astype(np.uint16) * 257),
    "NPZ": (npz(image=RGB), RGB),
    "NPY of bool": (npy(GREY > 99), (GREY > 99)[..., None].astype(np.uint8) * 255),
    "NPY of int8": (npy(GREY.astype(np.int8)), GREY.astype(np.int8)[..., None].astype(np.int16)),
    "NPY of float64": (npy(GREY / 256), (GREY / 256).astype(np.float32)[..., None]),
    "TIFF of float64": (tiff(GREY / 256), (GREY / 256).astype(np.float32)[..., None]),
    "TIFF of int32": (tiff(GREY.astype(np.int32) - 9), (GREY.astype(np.float32) - 9)[..., None]),
    "TIFF of uint32": (tiff(GREY.astype(np.uint32)), GREY.astype(np.float32)[..., None]),
    "TIFF of 12 bits": (tiff(GREY.astype(np.uint16) * 16, bitspersample=12), GREY[..., None].astype(np.uint16) * 16),
}


@pytest.mark.parametrize("kind", KEPT)
def test_a_file_s_values_are_kept(kind: str) -> None:
    content, expected = KEPT[kind]
    image_HWC = read_image(content, "a")
    assert image_HWC.dtype == expected.dtype
    np.testing.assert_array_equal(image_HWC, expected)


@pytest.mark.parametrize("value", [2**24 + 1, -(2**25) - 1, 2**40])
def test_an_integer_that_float32_does_not_hold_is_refused(value: int) -> None:
    with pytest.raises(
        UserError, match=r"^a: int64 values beyond 16,777,216, which float32 doesn't hold; rescale them"
    ):
        read_image(npy(np.array([[0, value]])), "a")


def test_a_float_beyond_float32_is_refused() -> None:
    with pytest.raises(UserError, match=r"^a: float64 values beyond float32's range"):
        read_image(npy(np.array([[0, 1e39]])), "a")


def test_an_npz_of_several_arrays_is_refused_with_their_names() -> None:
    with pytest.raises(UserError, match=r"^a.npz: an NPZ file that holds image, mask; save one array per file"):
        decode(npz(image=GREY, mask=MASK), "a.npz")


def damaged_jpegs(kind: str, seeds: int) -> list[bytes]:
    """JPEGs of smooth pictures in whose data 120 to 200 bytes are destroyed, or that end early and say so."""
    damaged = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        picture = smooth(96, 128, seed)
        content = bytearray(pillow(picture if seed % 2 else np.dstack([picture] * 3), "JPEG", quality=90))
        width = int(rng.integers(120, 200))
        start = int(rng.integers(700, len(content) - width - 2))
        if kind == "zeros":
            content[start : start + width] = bytes(width)
        elif kind == "noise":
            content[start : start + width] = rng.integers(1, 255, width, np.uint8).tobytes()
        else:
            content[start:] = b"\xff\xd9"
        damaged.append(bytes(content))
    return damaged


@pytest.mark.parametrize(("kind", "refused"), [("zeros", 40), ("cut short", 40), ("noise", 28)])
def test_a_jpeg_with_destroyed_data_is_refused(kind: str, refused: int) -> None:
    lines = []
    for content in damaged_jpegs(kind, 40):
        try:
            read_image(content, "a.jpg")
        except UserError as error:
            lines.append(str(error))
    assert len(lines) >= refused
    assert all(line.startswith("a.jpg: damaged") for line in lines)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 5}, {"subsampling": 0}])
@pytest.mark.parametrize("picture", [smooth(96, 128), np.zeros((256, 256), np.uint8), np.dstack([smooth(64, 99)] * 3)])
def test_a_whole_jpeg_is_taken_flat_ones_too(picture: np.ndarray, options: dict[str, Any]) -> None:
    content = pillow(picture, "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_image(content, "a.jpg"), expected.reshape(*expected.shape[:2], -1))


def lying_npy(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(100)


def lying_tiff(side: int, samples: int) -> bytes:
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, samples)]
    tags += [(278, 4, side), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHI", b"II", 42, 108) + bytes(100) + struct.pack("<H", len(tags)) + entries + bytes(4)


def lying_png(side: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(999))) + png_chunk(b"IEND", b"")


def lying_jpeg(side: int) -> bytes:
    content = bytearray(pillow(smooth(64, 64), "JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", lying_npy("(30000, 30000)"))
    return stream.getvalue()


LIES = {
    "NPY of a million squared": lying_npy("(1000000, 1000000)"),
    "NPY of 900 megapixels": lying_npy("(30000, 30000)"),
    "NPY of doubles": lying_npy("(9000, 9000, 64)", "<f8"),
    "NPZ": bomb(),
    "TIFF": lying_tiff(16000, 1),
    "TIFF of 64 samples": lying_tiff(16000, 64),
    "PNG": lying_png(16000),
    "JPEG": lying_jpeg(16000),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_header_that_lies_is_refused_before_memory_is_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise AssertionError("pixels were decoded")

    for decoder in (
        "numpy.load",
        "tifffile.TiffPageSeries.asarray",
        "imagecodecs.png_decode",
        "simplejpeg.decode_jpeg",
    ):
        monkeypatch.setattr(decoder, no_memory)
    with pytest.raises(UserError, match=r"^a: (damaged or truncated: its header claims|[\d,.]+ (pixels|GiB))"):
        read_image(LIES[kind], "a")


def test_strips_without_data_are_refused() -> None:
    content = bytearray(tiff(GREY, rowsperstrip=12))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        counts = file.pages[0].tags["StripByteCounts"]
        content[counts.valueoffset : counts.valueoffset + counts.dtype.value // 4 or 2] = bytes(2)
    with pytest.raises(UserError, match=r"^a: (a TIFF with strips or tiles that hold no data|damaged)"):
        read_image(bytes(content), "a")


FOREIGN = {
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "PNM": b"P5 4 5 255\n" + bytes(20),
    "Zeiss CZI": b"ZISRAWFILE" + bytes(99),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(99),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_kind_that_is_not_read_is_called_by_its_name(kind: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.png: {kind}.*, which isn't read; read are PNG, TIFF, JPEG"):
        read_image(FOREIGN[kind], "a.png")


@pytest.mark.parametrize(
    ("kind", "content"),
    [("NIfTI", bytes(344) + b"n+1\0" + bytes(99)), ("DICOM", bytes(128) + b"DICM" + bytes(99))],
)
def test_a_volume_among_pictures_says_which_param_reads_it(kind: str, content: bytes) -> None:
    with pytest.raises(UserError, match=rf"^a\.png: {kind}, a volume; set ingest\.dimensions: 3"):
        read_image(content, "a.png")


def test_no_suffix_is_both_read_and_not() -> None:
    assert not set(SUFFIXES) & set(UNREAD_SUFFIXES)


EVERY_KIND = [content for content, _ in KEPT.values()] + [
    pillow(GREY, "BMP"), pillow(RGB, "JPEG"), pillow(RGB, "PNG"), palette_picture("PNG", INDICES, COLOURS), pyramid(),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(EVERY_KIND), st.data())
def test_bytes_that_were_changed_at_random_give_an_image_or_a_line(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(1, len(changed)))]
    for read in (lambda: read_image(bytes(changed), "a"), lambda: read_mask(bytes(changed), "a", ChangeLog())):
        try:
            line = f"a: {read().size} samples"
        except UserError as error:
            line = str(error)
        assert line.startswith("a: ")
        assert "\n" not in line
