"""Maps of the pixels of a subset's images beside their masks; derived once and memory-mapped.

Axes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segops.files import output_folder, sha256_lines
from segops.locks import hold
from segops.progress import track
from segops.training.checkpoint import derivation_sha256

_FILE = "maps.npy"


@dataclass
class PixelMaps:
    """A map of each image of a subset.

    Attributes:
        flat: float16 in [0, 1], image after image; memory-mapped.
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
        map_HW: np.ndarray = self.flat[end - height * width : end].reshape(height, width)
        return map_HW


def pixel_maps(
    shapes: Sequence[tuple[int, int]], compute: Callable[[int], np.ndarray], cache_root: Path, *, identity: str
) -> PixelMaps:
    """Return a map of each image, from the cache or derived into it.

    Args:
        shapes: height and width of each image.
        compute: the map HW of the image at a position, float16 in [0, 1].
        cache_root: holds a folder for each derived array, and its lock.
        identity: names the images and what is computed.
    """
    folder = cache_root / sha256_lines([identity, derivation_sha256("segops.training.batches.object_maps")])
    with hold(folder.with_suffix(".lock")):
        try:
            flat = _open(folder)
        except (FileNotFoundError, ValueError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial:
                _derive(shapes, compute, partial / _FILE)
            flat = _open(folder)
    return PixelMaps(flat, shapes)


def _open(folder: Path) -> np.ndarray:
    """Memory-map the derived maps of a folder."""
    flat: np.ndarray = np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)
    return flat


def _derive(shapes: Sequence[tuple[int, int]], compute: Callable[[int], np.ndarray], path: Path) -> None:
    """Write the maps of all images into a flat file."""
    length = sum(height * width for height, width in shapes)
    flat = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(length,))
    begin = 0
    for position in track(range(len(shapes)), "maps of objects"):
        map_HW = compute(position)
        flat[begin : begin + map_HW.size] = map_HW.reshape(-1)
        begin += map_HW.size
    flat.flush()
