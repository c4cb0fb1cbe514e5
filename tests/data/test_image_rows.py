"""An image that is read by rows is the image that is decoded as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segops.data.decoders import bands, png_bands
from segops.data.decoders.bands import bands_of
from segops.data.image_rows import open_rows
from segops.data.images import read_image
from segops.errors import UserError
from segops.params.file_rules import FileRules
from tests.support.image_files import npy, pillow, png, tiff, write_zarr

RULES = FileRules()


@pytest.fixture(autouse=True)
def several_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows."""
    monkeypatch.setattr(bands, "_BAND_BYTES", 500)
    monkeypatch.setattr(png_bands, "_BAND_BYTES", 500)
    monkeypatch.setattr(png_bands, "_PIECE_BYTES", 70)


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 200, shape)
    return (values * 300 if dtype == "uint16" else values).astype(dtype)


def smooth(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """A ramp with some noise, which PNG's encoders filter in every way."""
    return (noise(*shape, dtype=dtype) // 50 + np.arange(shape[0])[:, *[None] * (len(shape) - 1)]).astype(dtype)


def opaque(array_HWC: np.ndarray) -> np.ndarray:
    return np.concatenate([array_HWC, np.full_like(array_HWC[..., :1], 255)], axis=-1)


FILES: dict[str, tuple[str, bytes]] = {
    "grey png": ("a.png", png(smooth(40, 30))),
    "rgb png": ("a.png", png(smooth(40, 30, 3))),
    "16-bit rgb png": ("a.png", png(noise(40, 30, 3, dtype="uint16"))),
    "optimized png": ("a.png", pillow(smooth(41, 33, 3), "PNG", optimize=True)),
    "opaque rgba png": ("a.png", png(opaque(noise(40, 30, 3)))),
    "tiff of strips": ("a.tif", tiff(noise(40, 30, 3), photometric="rgb", rowsperstrip=7, compression="zlib")),
    "tiff of tiles": ("a.tif", tiff(noise(40, 50), tile=(16, 32), compression="lzw", predictor=True)),
    "rgb tiff of tiles": ("a.tif", tiff(noise(40, 50, 3), tile=(16, 16), photometric="rgb")),
    "plain tiff": ("a.tif", tiff(noise(40, 50, dtype="uint16"))),
    "big-endian tiff": ("a.tif", tiff(noise(40, 50, dtype="uint16"), byteorder=">")),
    "white is 0 tiff": ("a.tif", tiff(noise(40, 50), photometric="miniswhite", rowsperstrip=9)),
    "bits tiff": ("a.tif", tiff(noise(40, 50) > 100, rowsperstrip=9, compression="packbits")),
    "int8 tiff": ("a.tif", tiff((noise(40, 50) - 100).astype("int8"))),
    "float npy": ("a.npy", npy(noise(40, 30, 2, dtype="float64"))),
    "int32 npy": ("a.npy", npy(noise(40, 30, dtype="int32"))),
}
WHOLE: dict[str, tuple[str, bytes]] = {
    "palette png": ("a.png", pillow(noise(40, 30), "PNG", mode="P")),
    "jpeg": ("a.jpg", pillow(noise(40, 30, 3), "JPEG")),
    "planes tiff": ("a.tif", tiff(noise(3, 40, 30), photometric="rgb", planarconfig="separate")),
    "fortran npy": ("a.npy", npy(np.asfortranarray(noise(40, 30)))),
}


@pytest.mark.parametrize("kind", [*FILES, *WHOLE])
def test_rows_are_those_of_the_decoded_image(kind: str, tmp_path: Path) -> None:
    name, content = (FILES | WHOLE)[kind]
    path = tmp_path / name
    path.write_bytes(content)
    expected = read_image(content, name)
    assert (bands_of(path, RULES) is None) == (kind in WHOLE)
    with open_rows((path,), RULES, tmp_path / "scratch", large_px=0) as rows:
        assert (rows.height, rows.width, rows.channels, rows.dtype) == (*expected.shape, expected.dtype)
        for first, last in ((0, rows.height), (30, 40), (0, 1), (5, 22)):
            np.testing.assert_array_equal(rows.read(first, last), expected[first:last])
    assert not any((tmp_path / "scratch").glob("*"))


def test_rows_of_an_ome_zarr_are_read_chunk_by_chunk(tmp_path: Path) -> None:
    image_CHW = noise(3, 50, 40, dtype="uint16")
    path = write_zarr(tmp_path / "a.ome.zarr", image_CHW, "cyx")
    with open_rows((path,), RULES, tmp_path, large_px=0) as rows:
        np.testing.assert_array_equal(rows.whole(), image_CHW.transpose(1, 2, 0))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([None, (16, 16), (32, 16)]),
    st.integers(1, 50),
    st.sampled_from([None, "zlib"]),
)
def test_a_tiff_of_any_layout_is_the_same(
    tmp_path_factory: Any, height: int, width: int, tile: tuple[int, int] | None, strip: int, packing: str | None
) -> None:
    folder = tmp_path_factory.mktemp("tiff")
    image = noise(height, width)
    layout: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": strip}
    (folder / "a.tif").write_bytes(tiff(image, compression=packing, **layout))
    with open_rows((folder / "a.tif",), RULES, folder, large_px=0) as rows:
        np.testing.assert_array_equal(rows.whole()[..., 0], image)


def spoiled(kind: str) -> bytes:
    content = bytearray(png(noise(40, 30)))
    if kind == "cut":
        return bytes(content[:-40])
    if kind == "alpha":
        varying = opaque(noise(40, 30, 3))
        varying[37, 3, 3] = 7
        return png(varying)
    content[len(content) // 2] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("cut", "damaged or truncated"),
        ("flipped", "damaged or truncated"),
        ("alpha", r"alpha channel varies \(7 to 255"),
    ],
)
def test_what_is_wrong_in_one_band_is_one_line(kind: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(spoiled(kind))
    with pytest.raises(UserError, match=line), open_rows((path,), RULES, tmp_path, large_px=0):
        pass
    assert list(tmp_path.iterdir()) == [path]
