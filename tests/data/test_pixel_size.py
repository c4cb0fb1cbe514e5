"""Pixel sizes: what of a file is taken for one, what isn't, and whose word counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.data.layouts.pairing import Pair
from segops.data.pixel_size import PixelSizes
from segops.params.ingest import IngestParams
from tests.support.image_files import pillow, png, tiff

IMAGE_HW = np.zeros((6, 8), np.uint8)
SIDECAR = b'{"PixelSize": [90, 70], "PixelSizeUnits": "nm"}'


class Folder:
    """A source of files in memory."""

    def __init__(self, **files: bytes) -> None:
        self.names, self._files = sorted(files), files

    def read(self, name: str) -> bytes:
        return self._files[name]


def size_of(
    content: bytes, *, size_HW: tuple[int, int] = (6, 8), said: Any = None, sidecar: bytes | None = None, **params: Any
) -> tuple[float, float] | None:
    """The pixel size of an image in a source, rounded."""
    files = {"a.ome.tif": content} | ({"a.json": sidecar} if sidecar else {})
    pair = Pair("a", "a.ome.tif", ("m.png",), "values", pixel_size_um=said)
    size = PixelSizes(Folder(**files), IngestParams(source="x", **params)).of(pair, content, size_HW)
    return None if size is None else (round(size[0], 9), round(size[1], 9))


def ome(**sizes: Any) -> bytes:
    return tiff(IMAGE_HW, ome=True, metadata=sizes)


def printed(dots: float, unit: str) -> bytes:
    return tiff(IMAGE_HW, resolution=(dots, dots), resolutionunit=unit)


@pytest.mark.parametrize(
    ("content", "height_width_um"),
    [
        (ome(PhysicalSizeX=0.25, PhysicalSizeY=0.5), (0.5, 0.25)),  # OME's default unit is the micrometre
        (ome(PhysicalSizeX=325, PhysicalSizeXUnit="nm", PhysicalSizeY=325, PhysicalSizeYUnit="nm"), (0.325, 0.325)),
        (ome(PhysicalSizeX=1, PhysicalSizeXUnit="pixel", PhysicalSizeY=1, PhysicalSizeYUnit="pixel"), None),
        (ome(PhysicalSizeX=0.25), None),  # one side alone
        (tiff(IMAGE_HW, imagej=True, resolution=(2, 4), metadata={"unit": "um"}), (0.25, 0.5)),
        (tiff(IMAGE_HW, imagej=True, resolution=(2, 2), metadata={"unit": "\\u00B5m"}), (0.5, 0.5)),
        (tiff(IMAGE_HW, imagej=True, resolution=(500, 500), metadata={"unit": "mm"}), (2.0, 2.0)),
        (tiff(IMAGE_HW, imagej=True, resolution=(72, 72), metadata={"unit": "inch"}), None),  # made of 72 dpi
        (tiff(IMAGE_HW, imagej=True, resolution=(1, 1), metadata={"unit": "pixel"}), None),
        (printed(72, "INCH"), None),
        (printed(2400, "INCH"), None),  # 10.6 um: a scanner's
        (printed(20_000, "CENTIMETER"), (0.5, 0.5)),  # as libvips writes slides
        (printed(50_800, "INCH"), (0.5, 0.5)),
        (printed(20_000, "NONE"), None),
        (tiff(IMAGE_HW), None),
        (pillow(IMAGE_HW, "PNG", dpi=(72, 72)), None),
        (pillow(IMAGE_HW, "PNG", dpi=(50_800, 50_800)), (0.5, 0.5)),
        (pillow(IMAGE_HW, "PNG", dpi=(50_800, 25_400)), None),  # not square: may be turned
        (png(IMAGE_HW), None),
        (pillow(IMAGE_HW, "JPEG", dpi=(50_800, 50_800)), None),
    ],
)  # fmt: skip
def test_a_pixel_size_is_taken_of_what_was_imaged_and_no_print_s(
    content: bytes, height_width_um: tuple[float, float] | None
) -> None:
    assert size_of(content) == height_width_um


def test_a_table_counts_before_the_param_and_this_before_files() -> None:
    content = ome(PhysicalSizeX=0.25, PhysicalSizeY=0.25)
    assert size_of(content, sidecar=SIDECAR) == (0.07, 0.09), "BIDS: x, then y; the sidecar before the image file"
    assert size_of(content, sidecar=b'{"shapes": []}') == (0.25, 0.25), "labelme's"
    assert size_of(content, sidecar=SIDECAR, pixel_size_um=2) == (2, 2)
    assert size_of(content, pixel_size_um="unknown") is None
    assert size_of(content, pixel_size_um=2, said=3.0) == (3, 3)
    assert size_of(content, pixel_size_um=2, said="unknown") is None


def test_a_picture_turned_upright_has_its_sides_turned_with_it() -> None:
    tags = [(274, "H", 1, 6, True)]
    content = tiff(IMAGE_HW, resolution=(20_000, 40_000), resolutionunit="CENTIMETER", extratags=tags)
    assert size_of(content, orientation="stored") == (0.25, 0.5)
    assert size_of(content, orientation="turn", size_HW=(8, 6)) == (0.5, 0.25)


@given(full=st.tuples(st.integers(200, 500), st.integers(200, 500)), by=st.integers(1, 8), up=st.booleans())
def test_a_smaller_copy_has_pixels_as_many_times_as_large(full: tuple[int, int], by: int, up: bool) -> None:
    content = tiff(np.zeros(full, np.uint8), resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    height, width = (-(-side // by) if up else side // by for side in full)
    assert size_of(content, size_HW=(height, width)) == (0.5 * by, 0.5 * by)
