"""Describes arrays in numbers: hash, intensities, modality.

Axes: H height, W width, C channels. Sums run over integers, so that the figures don't depend on the order of adding.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from segops.data.images import FULL_SCALE, OWN_UNITS

if TYPE_CHECKING:
    import pandas as pd

# Medians known: DSB2018's fluorescence lies below 0.18 and its other images above 0.75, synthetic ones below 0.20 and
# above 0.55. Spreads known of bright images: 0 in grey ones, above 0.045 in stained tissue.
DARK_MEDIAN = 0.35
COLOURED_SPREAD = 0.02
_BLOCK_SAMPLES = 2**22
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def array_sha256(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's dtype, shape and C-order little-endian bytes."""
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape}\n".encode())
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def describe_image(image_HWC: np.ndarray) -> dict[str, Any]:
    """Return the columns of the manifest that an image alone decides: shape, hash, modality, intensities.

    Intensities are on a full scale of 1, or int16 and float32 images' own. These, and images of another number of
    channels than 1 and 3, are no photographs: their modality is `other`.
    """
    if image_HWC.dtype.name in OWN_UNITS:
        return _own_units(image_HWC)
    full = int(FULL_SCALE[image_HWC.dtype.name])
    samples = np.zeros(full + 1, np.int64)  # histogram over all channels
    brightest = np.zeros(full + 1, np.int64)  # histogram of the largest channel of a pixel
    spread = saturated = 0
    for block_HWC in _blocks(image_HWC):
        channels_CHW = np.moveaxis(block_HWC, -1, 0)
        highest_HW, lowest_HW = reduce(np.maximum, channels_CHW), reduce(np.minimum, channels_CHW)
        samples += np.bincount(block_HWC.ravel(), minlength=full + 1)
        brightest += np.bincount(highest_HW.ravel(), minlength=full + 1)
        spread += int((highest_HW - lowest_HW).sum(dtype=np.int64))
        saturated += int(np.count_nonzero(lowest_HW == full))
    height, width, channels = image_HWC.shape
    pixels, count = height * width, height * width * channels
    seen = np.flatnonzero(samples)
    values = seen.astype(object)  # Python integers: a gigapixel's squares overflow int64
    total, squares = samples[seen] @ values, samples[seen] @ values**2
    return {
        "modality": modality(spread / pixels / full, _median(brightest) / full) if channels in (1, 3) else "other",
        **_shape(image_HWC),
        "intensity_min": int(seen[0]) / full,
        "intensity_max": int(seen[-1]) / full,
        "intensity_mean": total / count / full,
        "intensity_std": (count * squares - total**2) ** 0.5 / count / full,
        "saturated_fraction": saturated / pixels,
    }


def _own_units(image_HWC: np.ndarray) -> dict[str, Any]:
    """Return the columns of an image whose values are in units of their own, not shares of a full scale."""
    values_HWC = image_HWC.astype(np.float64)
    return {
        "modality": "other",
        **_shape(image_HWC),
        "intensity_min": float(values_HWC.min()),
        "intensity_max": float(values_HWC.max()),
        "intensity_mean": float(values_HWC.mean()),
        "intensity_std": float(values_HWC.std()),
        "saturated_fraction": 0.0,
    }


def _shape(image_HWC: np.ndarray) -> dict[str, Any]:
    """Return an image's height, width, channels, dtype and hash, as columns of the manifest."""
    height, width, channels = image_HWC.shape
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "dtype": image_HWC.dtype.name,
        "image_sha256": array_sha256(image_HWC),
    }


def modality(spread: float, median: float) -> str:
    """Name the modality by colour.

    Args:
        spread: mean over pixels of the largest minus the smallest channel, full scale 1.
        median: median over pixels of the largest channel, full scale 1.

    Returns: `fluorescence` for a dark background, whatever its colour; else `histology` for a coloured image and
        `brightfield` for a grey image.
    """
    if median < DARK_MEDIAN:
        return "fluorescence"
    return "histology" if spread > COLOURED_SPREAD else "brightfield"


def describe_mask(mask_HW: np.ndarray, classes: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return the columns of the manifest that a mask alone decides, and its number of pixels by class."""
    pixels = np.zeros(classes, np.int64)
    for block_HW in _blocks(mask_HW):
        pixels += np.bincount(block_HW.ravel(), minlength=classes)
    columns = {
        "mask_height": mask_HW.shape[0],
        "mask_width": mask_HW.shape[1],
        "mask_sha256": array_sha256(mask_HW),
        "foreground_fraction": int(pixels[1:].sum()) / mask_HW.size,
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
    sizes = [f"{height}x{width}" for height, width in zip(manifest["height"], manifest["width"], strict=True)]
    told_apart = manifest["instances"][manifest["instances"] >= 0]
    percentiles = np.percentile(manifest["intensity_mean"], _PERCENTILES)
    return {
        "images": len(manifest),
        "groups": int(manifest["group_id"].nunique()),
        "modalities": _tally(manifest["modality"]),
        "sizes": _tally(sizes),
        "channels": _tally(manifest["channels"]),
        "dtypes": _tally(manifest["dtype"]),
        "objects": int(told_apart.sum()) if len(told_apart) else None,
        "intensity_percentiles": {f"p{p:02d}": float(v) for p, v in zip(_PERCENTILES, percentiles, strict=True)},
    }


def _tally(values: Any) -> dict[str, int]:
    """Count equal values, as text, sorted."""
    return dict(sorted(Counter(str(value) for value in values).items()))


def _blocks(array: np.ndarray) -> list[np.ndarray]:
    """Cut an array into bands of rows, so that temporary copies stay small."""
    rows = max(1, _BLOCK_SAMPLES // max(1, array[0].size))
    return [array[top : top + rows] for top in range(0, len(array), rows)]


def _median(histogram: np.ndarray) -> int:
    """Return the lower median of the values that a histogram counts."""
    return int(np.searchsorted(np.cumsum(histogram), (histogram.sum() + 1) // 2))
