"""Resizes prepared native-size images to a candidate's size.

The resized arrays are derived once and kept in a cache named by a hash of all they depend on; they are memory-mapped,
and held on a GPU that has room for them. The test subset is never opened here.
Axes: N images, B batch, C channels, H height, W width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from segops.contracts.masks import IGNORED, is_foreground
from segops.data.arrays import PreparedData
from segops.data.images import FULL_SCALE
from segops.errors import require_space
from segops.files import output_folder, sha256_lines
from segops.inference.preprocess import content_extents, resize_image, resize_mask, unit_image
from segops.locks import hold
from segops.params.input import InputParams
from segops.progress import track
from segops.training.batches.pixel_maps import PixelMaps
from segops.training.checkpoint import derivation_sha256
from segops.training.process import free_bytes, put

RESIZED: tuple[Literal["train", "val"], ...] = ("train", "val")
_LARGEST_SHARE = 0.4  # of a GPU's free memory: the network needs the rest


@dataclass
class ResizedSubset:
    """Images and masks of a subset at a candidate's size and channels.

    Attributes:
        images: NHWC, uint8, or uint16 where the source has it; memory-mapped.
        masks: NHW, uint8 class indices and IGNORED; memory-mapped.
        contents: rows and columns of each image inside its borders.
        foreground_images: share of drawn rows that another image with foreground takes.
        maps: by name, where the training needs them (`object_maps`).
    """

    images: np.ndarray
    masks: np.ndarray
    contents: list[tuple[slice, slice]]
    foreground_images: float = 0.0
    maps: dict[str, PixelMaps] = field(default_factory=dict)
    _resident: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.masks)

    def reside(self, device: torch.device) -> bool:
        """Hold the subset on a GPU from now on, if it fits there; return whether it does."""
        fits = self.images.nbytes + self.masks.nbytes <= _LARGEST_SHARE * free_bytes(device)
        if fits:
            image_NHWC, mask_NHW = (torch.from_numpy(np.array(array)).to(device) for array in (self.images, self.masks))
            self._resident = image_NHWC, mask_NHW
        return fits

    def batch(self, rows: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return those rows as image_BCHW float32 in [0, 1] (in memory as NHWC) and mask_BHW uint8, on the device."""
        if self._resident is not None:
            rows_B = put(torch.tensor(rows), device)
            image_BHWC, mask_BHW = (array.index_select(0, rows_B) for array in self._resident)
        else:
            image_BHWC, mask_BHW = (put(torch.from_numpy(array[rows]), device) for array in (self.images, self.masks))
        full_scale = FULL_SCALE[self.images.dtype.name]
        return image_BHWC.permute(0, 3, 1, 2).to(torch.float32) / full_scale, mask_BHW

    def content(self, row: int) -> tuple[slice, slice]:
        """Return the rows and columns of an image inside the borders of `input.resize: pad`."""
        return self.contents[row]

    def has_foreground(self) -> bool:
        """Return whether a mask has foreground at this size."""
        return any(is_foreground(mask_HW).any() for mask_HW in self.masks)

    def further(self, rows: list[int], device: torch.device) -> dict[str, Tensor]:
        """Return the maps of those rows by name, BHW float32 in [0, 1], on the device."""
        stacked = {name: np.stack([maps[row] for row in rows]) for name, maps in self.maps.items()}
        return {name: put(torch.from_numpy(map_BHW), device).to(torch.float32) for name, map_BHW in stacked.items()}

    def draw(self, rows: list[int], generator: Generator) -> list[int]:
        """Draw the images that `batch` shows for those rows of an epoch: the same, or others with foreground.

        A share `foreground_images` is drawn from the images of a foreground class, each class that any image has with
        the same probability.
        """
        if not self.foreground_images:
            return rows
        drawn_B3 = torch.rand(len(rows), 3, generator=generator, dtype=torch.float64).tolist()
        return [self._drawn(row, *drawn) for row, drawn in zip(rows, drawn_B3, strict=True)]

    def _drawn(self, row: int, foreground: float, first: float, second: float) -> int:
        """Choose an image for a row by three numbers in [0, 1)."""
        by_class = self._rows_by_class
        if foreground >= self.foreground_images or not by_class:
            return row
        of_class = by_class[int(first * len(by_class))]
        return int(of_class[int(second * len(of_class))])

    @cached_property
    def _rows_by_class(self) -> list[np.ndarray]:
        """The rows that have a foreground class, for each such class."""
        has_NC = self._class_pixels[:, 1:] > 0
        return [np.flatnonzero(has_N) for has_N in has_NC.T if has_N.any()]

    @cached_property
    def _class_pixels(self) -> np.ndarray:
        """The pixels of each class in each image, N x 255; ignored ones are in none."""
        return np.stack([np.bincount(mask_HW.reshape(-1), minlength=256)[:IGNORED] for mask_HW in self.masks])

    def class_pixels(self, classes: int) -> np.ndarray:
        """Count the pixels of each class, int64."""
        counted_C: np.ndarray = self._class_pixels.sum(axis=0)[:classes]
        return counted_C


@dataclass(frozen=True)
class ResizedObjects:
    """Gives the objects of some rows at a candidate's size, where the source tells them apart."""

    data: PreparedData
    rows: list[int]
    params: InputParams

    def __call__(self, position: int) -> np.ndarray | None:
        """Return the object map HW int32 of the image at a position; resizing may lose small objects."""
        objects_HW = self.data.objects(self.rows[position])
        if objects_HW is None:
            return None
        assert self.params.resize != "none", "native pixels aren't derived"
        objects_1HW = torch.from_numpy(objects_HW.astype(np.int32))[None]
        resized_HW: np.ndarray = resize_mask(objects_1HW, self.params.size_hw, self.params.resize)[0].numpy()
        return resized_HW


def resized_subsets(data: PreparedData, params: InputParams, cache_root: Path) -> dict[str, ResizedSubset]:
    """Return train and val at the candidate's size, from the cache or derived into it.

    Args:
        data: the prepared images.
        params: size, channels and resize; the others act later.
        cache_root: holds a folder for each derived array, and its lock.
    """
    folder = cache_root / cache_key(data, params)
    with hold(folder.with_suffix(".lock")):
        try:
            return _open(data, params, folder)
        except (FileNotFoundError, ValueError):  # nothing yet, or a file that a full disk cut short
            with output_folder(folder) as partial:
                for subset in RESIZED:
                    _derive(data, data.rows(subset), params, partial, subset)
            return _open(data, params, folder)


def cache_key(data: PreparedData, params: InputParams) -> str:
    """Hash what resized images depend on: the pixels, what is done to them, by which code and with which rounding."""
    wanted = params.model_dump(mode="json", include={"size", "channels", "resize"})
    rounding = f"torch {torch.__version__} threads {torch.get_num_threads()}"
    return sha256_lines(
        [
            data.meta.sha256,
            json.dumps(wanted, sort_keys=True),
            derivation_sha256("segops.training.batches.resized"),
            rounding,
        ]
    )


def _open(data: PreparedData, params: InputParams, folder: Path) -> dict[str, ResizedSubset]:
    """Open the derived arrays of a folder, memory-mapped, as subsets."""

    def mapped(name: str) -> np.ndarray:
        array: np.ndarray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        return array

    return {
        name: ResizedSubset(mapped(f"{name}.images.npy"), mapped(f"{name}.masks.npy"), _contents(data, params, name))
        for name in RESIZED
    }


def _contents(data: PreparedData, params: InputParams, subset: Literal["train", "val"]) -> list[tuple[slice, slice]]:
    """Return where each image of a subset lies inside the candidate's size."""
    assert params.resize != "none", "native pixels aren't derived"
    extents = [content_extents(data.mask(row).shape, params.size_hw, params.resize) for row in data.rows(subset)]
    cut = [[slice(int(begin), int(begin + length)) for begin, length in axes] for axes in extents]
    return [(rows, columns) for rows, columns in cut]


def _derive(data: PreparedData, rows: list[int], params: InputParams, folder: Path, subset: str) -> None:
    """Write `<subset>.images.npy` and `<subset>.masks.npy`, image by image, so that memory stays flat."""
    assert params.resize != "none", "native pixels aren't derived"
    deep = (data.index.loc[data.index["subset"].isin(RESIZED), "dtype"] == "uint16").any()
    dtype = np.dtype("<u2" if deep else "u1")
    height, width = params.size_hw
    require_space(folder, len(rows) * height * width * (params.channels * dtype.itemsize + 1))
    with (folder / f"{subset}.images.npy").open("wb") as images, (folder / f"{subset}.masks.npy").open("wb") as masks:
        _npy_header(images, (len(rows), height, width, params.channels), dtype)
        _npy_header(masks, (len(rows), height, width), np.dtype("u1"))
        for row in track(rows, f"resize {subset} to {height}x{width}"):
            images.write(_resized_image(data, row, params, dtype).tobytes())
            mask_1HW = torch.from_numpy(np.array(data.mask(row)))[None]
            masks.write(resize_mask(mask_1HW, params.size_hw, params.resize).numpy().tobytes())


def _resized_image(data: PreparedData, row: int, params: InputParams, dtype: np.dtype) -> np.ndarray:
    """Resize an image to the candidate's size, HWC, rounded to levels of `dtype`."""
    assert params.resize != "none", "native pixels aren't derived"
    image_HWC = data.image(row)
    image_1CHW = unit_image(image_HWC, data.full_scale(image_HWC.dtype), params.channels)
    resized_1CHW = resize_image(image_1CHW, params.size_hw, params.resize)
    levels_HWC = (resized_1CHW[0].permute(1, 2, 0) * FULL_SCALE[dtype.name]).round()
    return levels_HWC.clamp(0, FULL_SCALE[dtype.name]).numpy().astype(dtype)


def _npy_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write the header of an NPY file whose array follows piece by piece."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
