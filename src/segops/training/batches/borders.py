"""Maps where background lies between objects, for the boundary-weighted loss; derived once and memory-mapped.

Axes: H height, W width; h, w of a part of an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segops.files import output_folder, sha256_lines
from segops.locks import hold
from segops.progress import track
from segops.training.checkpoint import derivation_sha256

_FILE = "borders.npy"
_REACH = 5.0  # standard deviations; beyond it the map is below 4e-6


def border_map(mask_HW: np.ndarray, sigma_px: float) -> np.ndarray:
    """Compute exp(-(d1 + d2)^2 / (2 sigma^2)) of each background pixel, 0 in objects; float16 HW in [0, 1].

    d1 and d2 are the pixel's distances to the nearest and second nearest object (Ronneberger et al. 2015, equation 2).
    Objects are the 8-connected components of each foreground class. Fewer than two objects near by count as 0.
    """
    from scipy import ndimage

    margin = math.ceil(_REACH * sigma_px)
    nearest_HW, second_HW = (np.full(mask_HW.shape, np.inf, np.float32) for _ in range(2))
    for index in range(1, int(mask_HW.max()) + 1):
        objects_HW, _ = ndimage.label(mask_HW == index, structure=np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(objects_HW), start=1):
            around = tuple(slice(max(0, span.start - margin), span.stop + margin) for span in (rows, columns))
            distance_hw = ndimage.distance_transform_edt(objects_HW[around] != number).astype(np.float32)
            nearest_hw, second_hw = nearest_HW[around], second_HW[around]
            second_HW[around] = np.minimum(second_hw, np.maximum(nearest_hw, distance_hw))
            nearest_HW[around] = np.minimum(nearest_hw, distance_hw)
    between_HW = np.exp(-((nearest_HW + second_HW) ** 2) / (2 * sigma_px**2))
    return np.where(mask_HW == 0, between_HW, 0).astype(np.float16)


@dataclass
class BorderMaps:
    """The border maps of a subset's images.

    Attributes:
        flat: float16, image after image; memory-mapped.
        shapes: height and width of each image.
    """

    flat: np.ndarray
    shapes: Sequence[tuple[int, int]]

    def __post_init__(self) -> None:
        self._ends = np.cumsum([height * width for height, width in self.shapes])

    def __getitem__(self, position: int) -> np.ndarray:
        """The map HW of the image at a position of the subset."""
        height, width = self.shapes[position]
        end = int(self._ends[position])
        border_HW: np.ndarray = self.flat[end - height * width : end].reshape(height, width)
        return border_HW


def border_maps(
    shapes: Sequence[tuple[int, int]],
    mask: Callable[[int], np.ndarray],
    sigma_px: float,
    cache_root: Path,
    *,
    identity: str,
) -> BorderMaps:
    """Return the border maps of some masks, from the cache or derived into it.

    Args:
        shapes: height and width of each mask.
        mask: the mask HW at a position.
        sigma_px: of the map.
        cache_root: holds a folder for each derived array, and its lock.
        identity: names these masks.
    """
    key = sha256_lines([identity, repr(float(sigma_px)), derivation_sha256("segops.training.batches.borders")])
    folder = cache_root / key
    with hold(folder.with_suffix(".lock")):
        try:
            flat = _open(folder)
        except (FileNotFoundError, ValueError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial:
                _derive(shapes, mask, sigma_px, partial / _FILE)
            flat = _open(folder)
    return BorderMaps(flat, shapes)


def _open(folder: Path) -> np.ndarray:
    """Memory-map the derived maps of a folder."""
    flat: np.ndarray = np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)
    return flat


def _derive(shapes: Sequence[tuple[int, int]], mask: Callable[[int], np.ndarray], sigma_px: float, path: Path) -> None:
    """Write the maps of all masks into a flat file."""
    length = sum(height * width for height, width in shapes)
    flat = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(length,))
    begin = 0
    for position in track(range(len(shapes)), "weights between objects"):
        border_HW = border_map(mask(position), sigma_px)
        flat[begin : begin + border_HW.size] = border_HW.reshape(-1)
        begin += border_HW.size
    flat.flush()
