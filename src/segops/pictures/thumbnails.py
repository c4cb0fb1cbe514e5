"""thumbnails.zip: small pictures of validation and test images with truth and prediction, for pages that compare.

`<image_id>.jpg` is the image, `<image_id>.truth.png` and `<image_id>.predicted.png` are masks of class indices of the
same size: the longer side is at most SIDE_PX. Where objects are told apart, `<image_id>.truth_seams.png` and
`<image_id>.predicted_seams.png` are 1 where two of them touch. `<image_id>.confidence.jpg` is grey, at most
CONFIDENCE_PX, 255 where confidence is 1; what has no probabilities has none. Equal input gives equal bytes.
Axes: H height, W width, C channels.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from segops.errors import UserError
from segops.pictures.images import jpeg, nearest, picture, png, seams

THUMBNAILS_FILE = "thumbnails.zip"
SIDE_PX = 256
CONFIDENCE_PX = 128  # smooth, so that half the size says as much
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold

Mask = npt.NDArray[np.uint8]


def chosen(image_ids: Collection[str], most: int) -> set[str]:
    """Choose at most `most` of the images by the hash of their names: the same ones for every candidate."""
    return set(sorted(image_ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:most])


class ThumbnailWriter:
    """Writes a new zip of the wanted images; others are passed over."""

    def __init__(self, path: Path, wanted: Collection[str]) -> None:
        self._zip = zipfile.ZipFile(path, "w")
        self._wanted = wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add(
        self,
        image_id: str,
        image: npt.NDArray[Any],
        truth_HW: Mask,
        predicted_HW: Mask,
        *,
        confidence_HW: npt.NDArray[np.floating[Any]] | None = None,
        truth_objects_HW: npt.NDArray[Any] | None = None,
        predicted_objects_HW: npt.NDArray[Any] | None = None,
    ) -> None:
        """Add an image HW or HWC, the class indices of its truth and of its prediction, and labels of their objects.

        Args:
            confidence_HW: in [0, 1], as in `evaluation.calibration`.
        """
        if image_id not in self._wanted:
            return
        size_hw = _small_size(truth_HW.shape)
        with Image.fromarray(picture(image)) as shown:
            small = shown.resize(size_hw[::-1], Image.Resampling.BICUBIC)
        self._write(f"{image_id}.jpg", jpeg(np.asarray(small, np.uint8)))
        for name, mask_HW in (("truth", truth_HW), ("predicted", predicted_HW)):
            self._write(f"{image_id}.{name}.png", png(nearest(mask_HW.astype(np.uint8), size_hw)))
        for name, objects_HW in (("truth", truth_objects_HW), ("predicted", predicted_objects_HW)):
            if objects_HW is not None:
                self._write(f"{image_id}.{name}_seams.png", png(seams(nearest(objects_HW, size_hw)).astype(np.uint8)))
        if confidence_HW is not None:
            grey_HW = np.asarray(np.clip(confidence_HW, 0, 1) * 255, np.float64).round().astype(np.uint8)
            with Image.fromarray(grey_HW) as shown:
                small = shown.resize(_small_size(grey_HW.shape, CONFIDENCE_PX)[::-1], Image.Resampling.BOX)
            self._write(f"{image_id}.confidence.jpg", jpeg(np.asarray(small, np.uint8)))

    def _write(self, name: str, content: bytes) -> None:
        """Add a file to the zip, with a fixed time so that equal input gives equal bytes."""
        self._zip.writestr(zipfile.ZipInfo(name, _EPOCH), content)


class Thumbnails:
    """Reads a zip of thumbnails; pictures are decoded when they are asked for.

    Raises: UserError where the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run evaluate again (`dvc repro`)") from None
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            raise self._damaged() from None
        self._names = set(self._zip.namelist())
        self.image_ids = {name.removesuffix(".truth.png") for name in self._names if name.endswith(".truth.png")}

    def image(self, image_id: str) -> bytes:
        """Return the image as JPEG."""
        return self._read(f"{image_id}.jpg")

    def masks(self, image_id: str) -> tuple[Mask, Mask]:
        """Return the class indices HW of truth and prediction."""
        truth, predicted = (self._decoded(f"{image_id}.{name}.png", "PNG") for name in ("truth", "predicted"))
        return truth, predicted

    def confidence(self, image_id: str) -> npt.NDArray[np.float64] | None:
        """Return the confidence HW in [0, 1]; None where there is none."""
        name = f"{image_id}.confidence.jpg"
        return self._decoded(name, "JPEG") / 255 if name in self._names else None

    def seams(self, image_id: str) -> tuple[Mask | None, Mask | None]:
        """Return where objects touch, HW 0 and 1, in truth and in prediction; None where none are told apart."""
        truth, predicted = (
            self._decoded(name, "PNG") if (name := f"{image_id}.{part}_seams.png") in self._names else None
            for part in ("truth", "predicted")
        )
        return truth, predicted

    def _decoded(self, name: str, kind: str) -> Mask:
        """Decode a picture of one channel, HW. Raises UserError where it is damaged."""
        try:
            with Image.open(io.BytesIO(self._read(name)), formats=[kind]) as read:
                return np.asarray(read, np.uint8)
        except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
            raise self._damaged() from None

    def _read(self, name: str) -> bytes:
        """Return a file's bytes. Raises UserError where it is missing or damaged."""
        try:
            return self._zip.read(name)
        except (LookupError, zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error):
            raise self._damaged() from None

    def _damaged(self) -> UserError:
        """Make the error that says that the file isn't what evaluate writes."""
        return UserError(f"{self._path}: not the thumbnails that evaluate writes; run evaluate again (`dvc repro -f`)")


def _small_size(size_hw: tuple[int, ...], most_px: int = SIDE_PX) -> tuple[int, int]:
    """Return a size that is shrunk so that its longer side is at most `most_px`."""
    height, width = size_hw
    scale = min(1.0, most_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
