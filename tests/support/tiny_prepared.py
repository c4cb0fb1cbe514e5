"""A prepared folder of small images, made by hand: bright discs on a darker, noisy ground."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from segops.contracts.base import Subset
from segops.contracts.masks import IGNORED
from segops.contracts.prepared import Prepared
from segops.contracts.tables import INDEX_COLUMNS, write_table
from segops.contracts.volumes import UNKNOWN_SPACING
from segops.data.arrays import INDEX, PreparedData
from segops.data.fingerprint import array_sha256
from segops.data.flat_files import IMAGES, MASKS, FlatWriter
from segops.files import sha256_file, sha256_lines

SUBSETS: tuple[Subset, ...] = ("train",) * 10 + ("val",) * 4 + ("test",) * 2
SIZES_HW = ((40, 40), (36, 48))
NO_OBJECTS = (-1, -1)  # number and offset in the index


def disc(size_hw: tuple[int, int], channels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image HWC uint8 and its mask HW: one disc of a radius of 8 to 12 pixels."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    radius = rng.integers(8, 13)
    row, column = rng.integers(12, height - 12), rng.integers(12, width - 12)
    y, x = np.ogrid[:height, :width]
    mask_HW = ((y - row) ** 2 + (x - column) ** 2 <= radius**2).astype(np.uint8)
    noise_HWC = rng.integers(0, 40, (height, width, channels))
    return (noise_HWC + 40 + 140 * mask_HW[..., None]).astype(np.uint8), mask_HW


def write_prepared(
    folder: Path, *, subsets: tuple[Subset, ...] = SUBSETS, dtype: str = "uint8", channels: int = 3, classes: int = 2
) -> Path:
    """Write `prepared.json`, `index.parquet`, `images.bin` and `masks.bin`; uint16 images are 257 times brighter."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with (folder / IMAGES).open("wb") as images, (folder / MASKS).open("wb") as masks:
        image_file, mask_file = FlatWriter(images), FlatWriter(masks)
        for number, subset in enumerate(subsets):
            size_hw = SIZES_HW[number % len(SIZES_HW)]
            image_HWC, mask_HW = disc(size_hw, channels, seed=number)
            if dtype == "uint16":
                image_HWC = image_HWC.astype(np.uint16) * 257
            offsets = image_file.append(image_HWC), mask_file.append(mask_HW * (1 + number % (classes - 1)))
            fold = -1 if subset == "test" else number % 5
            image = [
                f"i{number:02}",
                f"g{number:02}",
                subset,
                fold,
                "fluorescence",
                1,
                *size_hw,
                *UNKNOWN_SPACING,
                channels,
                dtype,
            ]
            hashes = array_sha256(image_HWC), array_sha256(mask_HW * (1 + number % (classes - 1))), ""
            rows.append([*image, *offsets, *NO_OBJECTS, *hashes])
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    write_table(index, folder / INDEX, INDEX_COLUMNS)
    some = sha256_lines(["some"])
    Prepared(
        dataset="discs",
        source="test",
        source_sha256=some,
        licence="CC0-1.0",
        classes=["background", "disc", "ring"][:classes],
        class_colours=["#000000", "#e69f00", "#56b4e9"][:classes],
        images=len(subsets),
        protocol="grouped",
        manifest_sha256=some,
        assignment_sha256=sha256_lines(subsets),
        test_sha256=some,
        images_sha256=sha256_lines(index["image_sha256"]),
        masks_sha256=sha256_lines(index["mask_sha256"]),
        index_sha256=sha256_file(folder / INDEX),
    ).save(folder)
    return folder


def name_pixels_anew(folder: Path) -> Prepared:
    """Give index and prepared.json the hashes of pixels and masks that a test has changed."""
    data = PreparedData.open(folder)
    images, masks = ([array_sha256(array(row)) for row in range(len(data))] for array in (data.image, data.mask))
    write_table(data.index.assign(image_sha256=images, mask_sha256=masks), folder / INDEX, INDEX_COLUMNS)
    hashes = {
        "images_sha256": sha256_lines(images),
        "masks_sha256": sha256_lines(masks),
        "index_sha256": sha256_file(folder / INDEX),
    }
    changed = data.meta.model_copy(update=hashes)
    changed.save(folder)
    return changed


def ignore_pixels(folder: Path, rows_to_ignore: Callable[[int, int], int]) -> PreparedData:
    """Ignore the upper rows of each mask, as many as the function says of the image's number and height; open it."""
    data = PreparedData.open(folder)
    masks = bytearray((folder / MASKS).read_bytes())
    for number, begin in enumerate(data.index["mask_offset"]):
        mask_HW = data.mask(number).copy()
        mask_HW[: rows_to_ignore(number, len(mask_HW))] = IGNORED
        masks[begin : begin + mask_HW.size] = mask_HW.tobytes()
    (folder / MASKS).write_bytes(masks)
    name_pixels_anew(folder)
    return PreparedData.open(folder)
