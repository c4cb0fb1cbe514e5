"""Describes arrays in numbers: hash, intensities, appearance.

Axes: H height, W width, C channels; what takes an image HWC or a mask HW in its own units also takes a volume's DHWC
and DHW. Sums of 8- and 16-bit samples run over integers, so that the figures don't depend on the order of adding.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.contracts.masks import IGNORED
from segops.contracts.pixel_size import KnownPixels, pixel_size_of
from segops.contracts.volumes import SPACING_COLUMNS, size_words
from segops.data.appearance import Appearance
from segops.data.images import FULL_SCALE, OWN_UNITS, bits_of
from segops.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_SAMPLES = 2**22
_INTENSITIES = ("intensity_min", "intensity_max", "intensity_mean", "intensity_std")
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def array_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's dtype, shape and C-order little-endian bytes."""
    digest = hashlib.sha256(array_head(array.dtype, array.shape))
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def array_head(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return what is hashed before an array's bytes."""
    return f"{dtype.name} {shape}\n".encode()


def describe_image(image_HWC: np.ndarray) -> tuple[dict[str, Any], Appearance | None]:
    """Return the columns of the manifest that an image alone decides, and how it looks.

    Intensities are on the full scale of the type, or int16 and float32 images' own; `rescale` puts 16-bit ones on the
    scale that the whole dataset uses. Images in their own units, and of another number of channels than 1 and 3, are no
    photographs and have no appearance.
    """
    if image_HWC.dtype.name in OWN_UNITS:
        return _own_units(image_HWC), None
    full = int(FULL_SCALE[image_HWC.dtype.name])
    white = full if full == 255 else 2 ** bits_of(int(image_HWC.max())) - 1
    samples = np.zeros(full + 1, np.int64)  # histogram over all channels
    brightest = np.zeros(full + 1, np.int64)  # histogram of the largest channel of a pixel
    spread = saturated = 0
    for block_HWC in _blocks(image_HWC):
        channels_CHW = np.moveaxis(block_HWC, -1, 0)
        highest_HW, lowest_HW = reduce(np.maximum, channels_CHW), reduce(np.minimum, channels_CHW)
        samples += np.bincount(block_HWC.ravel(), minlength=full + 1)
        brightest += np.bincount(highest_HW.ravel(), minlength=full + 1)
        spread += int((highest_HW - lowest_HW).sum(dtype=np.int64))
        saturated += int(np.count_nonzero(lowest_HW == white))
    height, width, channels = image_HWC.shape
    pixels, count = height * width, height * width * channels
    seen = np.flatnonzero(samples)
    values = seen.astype(object)  # Python integers: a gigapixel's squares overflow int64
    total, squares = samples[seen] @ values, samples[seen] @ values**2
    columns = {
        **_shape(image_HWC),
        "intensity_min": int(seen[0]) / full,
        "intensity_max": int(seen[-1]) / full,
        "intensity_mean": total / count / full,
        "intensity_std": (count * squares - total**2) ** 0.5 / count / full,
        "saturated_fraction": saturated / pixels,
    }
    photograph = channels in (1, 3)
    return columns, Appearance(_median(brightest) / full, spread / pixels / full) if photograph else None


def rescale(
    rows: list[dict[str, Any]], looks: list[Appearance | None], bits: int | None
) -> tuple[int, list[Appearance | None]]:
    """Put the intensities of 16-bit images, in place, on the scale of the bits that the whole dataset uses.

    Args:
        rows: columns of `describe_image`.
        looks: the images' appearances.
        bits: as params say; None: found, the fewest of `UINT16_BITS` that hold the highest value.

    Returns: the bits, 16 where no image has 16-bit samples, and the appearances on that scale.
    Raises: UserError naming the image that holds more than `bits` can.
    """
    full = int(FULL_SCALE["uint16"])
    deep = [row for row in rows if row["dtype"] == "uint16"]
    if not deep:
        return 16, looks
    brightest = max(deep, key=lambda row: float(row["intensity_max"]))
    highest = round(brightest["intensity_max"] * full)
    if bits is not None and highest >= 2**bits:
        raise UserError(
            f"{brightest['source_image']}: holds {highest}, more than the {2**bits - 1} of ingest.uint16_bits {bits}; "
            "raise it, or set it to null"
        )
    bits = bits or bits_of(highest)
    factor = full / (2**bits - 1)
    for row in deep:
        if bits_of(round(row["intensity_max"] * full)) != bits:
            row["saturated_fraction"] = 0.0  # white of its own scale isn't white of the dataset's
        row |= {name: row[name] * factor for name in _INTENSITIES}
    scaled = [
        Appearance(*(value * factor for value in look)) if look is not None and row["dtype"] == "uint16" else look
        for row, look in zip(rows, looks, strict=True)
    ]
    return bits, scaled


def _own_units(image_HWC: np.ndarray) -> dict[str, Any]:
    """Return the columns of an image whose values are in units of their own, not shares of a full scale."""
    blocks = _blocks(image_HWC)
    mean = sum(float(block.sum(dtype=np.float64)) for block in blocks) / image_HWC.size
    squares = sum(float(np.square(block - mean, dtype=np.float64).sum()) for block in blocks)
    return {
        **_shape(image_HWC),
        "intensity_min": float(image_HWC.min()),
        "intensity_max": float(image_HWC.max()),
        "intensity_mean": mean,
        "intensity_std": math.sqrt(squares / image_HWC.size),
        "saturated_fraction": 0.0,
    }


def _shape(image_HWC: np.ndarray) -> dict[str, Any]:
    """Return an image's depth, height, width, channels, dtype and hash, as columns of the manifest."""
    *depth, height, width, channels = image_HWC.shape
    return {
        "depth": depth[0] if depth else 1,
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": image_HWC.dtype.name,
        "image_sha256": array_sha256(image_HWC),
    }


def describe_mask(mask_HW: np.ndarray, classes: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return the columns of the manifest that a mask alone decides, and its number of pixels by class.

    Ignored pixels count in none of them, nor in the whole of which foreground is a part.
    """
    counted = np.zeros(IGNORED + 1, np.int64)
    for block_HW in _blocks(mask_HW):
        counted += np.bincount(block_HW.ravel(), minlength=len(counted))
    pixels = counted[:classes]
    assert pixels.sum() + counted[IGNORED] == mask_HW.size, "a mask holds classes and IGNORED"
    columns = {
        "mask_height": mask_HW.shape[-2],
        "mask_width": mask_HW.shape[-1],
        "mask_sha256": array_sha256(mask_HW),
        "foreground_fraction": int(pixels[1:].sum()) / max(1, int(pixels.sum())),
        "ignored_fraction": int(counted[IGNORED]) / mask_HW.size,
        "classes": " ".join(str(index) for index in np.flatnonzero(pixels)),
    }
    return columns, pixels


def describe_objects(objects_HW: np.ndarray | None) -> dict[str, Any]:
    """Return the columns of the manifest about an example's objects: their number and the hash of their map."""
    if objects_HW is None:
        return {"instances": -1, "objects_sha256": ""}
    return {"instances": int(objects_HW.max()), "objects_sha256": array_sha256(objects_HW)}


def summarize(manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the fields of dataset.json that the manifest decides: counts, sizes, modalities, intensities."""
    sizes = [size_words(row) for row in manifest[["depth", "height", "width"]].to_dict("records")]
    told_apart = manifest["instances"][manifest["instances"] >= 0]
    mask_px = manifest["depth"] * manifest["mask_height"] * manifest["mask_width"]
    spacing_mm = manifest[list(SPACING_COLUMNS)]
    percentiles = np.percentile(manifest["intensity_mean"], _PERCENTILES)
    return {
        "images": len(manifest),
        "groups": int(manifest["group_id"].nunique()),
        "modalities": _tally(manifest["modality"]),
        "sizes": _tally(sizes),
        "spacing_mm": None if spacing_mm.isna().any(axis=None) else tuple(spacing_mm.median()),
        "pixel_um": KnownPixels.of(
            pixel_size_of(row)
            for row in manifest[list(SPACING_COLUMNS)].to_dict("records")
            if math.isnan(row[SPACING_COLUMNS[0]])
        ),
        "channels": _tally(manifest["channels"]),
        "dtypes": _tally(manifest["dtype"]),
        "ignored_share": round(float(np.average(manifest["ignored_fraction"], weights=mask_px)), 9),
        "objects": int(told_apart.sum()) if len(told_apart) else None,
        "intensity_percentiles": {f"p{p:02d}": float(v) for p, v in zip(_PERCENTILES, percentiles, strict=True)},
    }


def _tally(values: Any) -> dict[str, int]:
    """Count equal values, as text, sorted."""
    return dict(sorted(Counter(str(value) for value in values).items()))


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    """Cut an array into bands of rows or slices, so that temporary copies stay small."""
    rows = max(1, _BLOCK_SAMPLES // max(1, array[0].size))
    return [array[top : top + rows] for top in range(0, len(array), rows)]


def _median(histogram: np.ndarray) -> int:
    """Return the lower median of the values that a histogram counts."""
    return int(np.searchsorted(np.cumsum(histogram), (histogram.sum() + 1) // 2))
