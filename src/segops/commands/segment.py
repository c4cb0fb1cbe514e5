"""Writes an image's or a volume's mask, and what else was asked for beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segops.commands.predict_inputs import objects_path, overlay_path
from segops.commands.predict_volumes import segment_volume
from segops.commands.volume_inputs import VolumeTask
from segops.errors import UserError, reworded
from segops.files import atomic_path

if TYPE_CHECKING:
    import numpy.typing as npt

    from segops.data.image_rows import ImageRows
    from segops.inference.predict import Maps, Predictor

_MOST_OBJECTS = 2**16 - 1


@dataclass(frozen=True)
class Segmented:
    """An image and what was written for it; the fields are predictions.csv's, None where it can't be read."""

    image: str
    files: tuple[Path, ...] = ()
    height: int | None = None
    width: int | None = None
    foreground_fraction: float | None = None
    confidence: float | None = None
    objects: int | None = None
    error: str | None = None


class PictureTask(NamedTuple):
    """A picture to segment: its name, its files and its mask."""

    name: str
    paths: tuple[Path, ...]
    target: Path


def predict_volume(predictor: Predictor, task: VolumeTask, *, overlays: bool) -> Segmented:
    """Write a volume's mask, and its overlay where asked.

    Raises: UserError for files that can't be read.
    """
    from segops.evaluation.features import prediction_features

    segmented = segment_volume(predictor, task, overlays=overlays)
    _write(segmented.files)
    height, width = segmented.mask_DHW.shape[1:]
    fraction, confidence = prediction_features(segmented.probability_KDHW, segmented.mask_DHW).values()
    return Segmented(task.name, tuple(segmented.files), height, width, fraction, confidence)


def predict_image(
    predictor: Predictor, rows: ImageRows, task: PictureTask, *, overlays: bool, maps: Maps | None = None
) -> Segmented:
    """Write an image's mask, its objects where the candidate tells them apart, and its overlay where asked.

    Args:
        rows: of the image.
        maps: what is predicted of it; None: nothing yet.

    Raises: UserError for another kind of image, or more objects than uint16 can number.
    """
    from segops.inference.predict import whole

    if maps is None and predictor.decides_by_pixel and not overlays:
        return _written_by_rows(predictor, rows, task)
    maps = maps or whole(_strips(predictor, rows, task))
    return _written_whole(predictor, rows, maps, task, overlays=overlays)


def _written_by_rows(predictor: Predictor, rows: ImageRows, task: PictureTask) -> Segmented:
    """Write the mask as its rows are predicted, so that nothing of the image's size is held."""
    from segops.evaluation.features import PredictionTally
    from segops.pictures.png_file import write_mask

    tally = PredictionTally()

    def strips() -> Iterator[npt.NDArray[np.uint8]]:
        for probability_KhW, _ in _strips(predictor, rows, task):
            mask_hW = predictor.decide(probability_KhW)
            tally.add(probability_KhW, mask_hW)
            yield _shown(mask_hW, predictor)

    with atomic_path(task.target) as unfinished:
        write_mask(unfinished, (rows.height, rows.width), strips(), _palette(predictor))
    fraction, confidence = tally.features().values()
    return Segmented(task.name, (task.target,), rows.height, rows.width, fraction, confidence)


def _strips(predictor: Predictor, rows: ImageRows, task: PictureTask) -> Iterator[Maps]:
    """Predict a picture by its rows. Raises UserError that names its file."""
    with reworded(lambda text: f"{task.paths[0]}: {text}"):
        yield from predictor.strips(rows)


def _written_whole(
    predictor: Predictor, rows: ImageRows, maps: Maps, task: PictureTask, *, overlays: bool
) -> Segmented:
    """Write what needs the whole mask: one that is cleaned or cut by Otsu, objects, an overlay."""
    from segops.evaluation.features import prediction_features
    from segops.pictures.images import overlay, png
    from segops.pictures.png_file import write_mask

    target, mask_HW, objects = task.target, predictor.decide(maps.probability_KHW), None
    files: dict[Path, bytes] = {}
    objects_HW = predictor.objects(mask_HW, maps)
    if objects_HW is not None:
        numbered_HW = _numbered(objects_HW, task.paths[0])
        files[objects_path(target)], objects = png(numbered_HW), int(numbered_HW.max(initial=0))
    if overlays:
        drawn = overlay(rows.whole(), mask_HW, predictor.model.class_colours, objects_HW=objects_HW)
        files[overlay_path(target)] = png(drawn)
    with atomic_path(target) as unfinished:
        write_mask(unfinished, mask_HW.shape, [_shown(mask_HW, predictor)], _palette(predictor))
    _write(files)
    fraction, confidence = prediction_features(maps.probability_KHW, mask_HW).values()
    return Segmented(task.name, (target, *files), rows.height, rows.width, fraction, confidence, objects)


def _palette(predictor: Predictor) -> list[str]:
    """Return the colours of a mask's file: none where it is 0 and 255."""
    colours = predictor.model.class_colours
    return [] if len(colours) == 2 else colours


def _shown(mask_hW: npt.NDArray[np.uint8], predictor: Predictor) -> npt.NDArray[np.uint8]:
    """Return a mask's values in its file."""
    return mask_hW if _palette(predictor) else mask_hW * np.uint8(255)


def _write(files: Mapping[Path, bytes]) -> None:
    """Write files atomically."""
    for path, content in files.items():
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(content)


def _numbered(objects_HW: npt.NDArray[np.int32], path: Path) -> npt.NDArray[np.uint16]:
    """Return objects as uint16. Raises UserError where there are too many."""
    if objects_HW.max(initial=0) > _MOST_OBJECTS:
        raise UserError(f"{path}: {objects_HW.max()} objects, a file of objects holds {_MOST_OBJECTS}; cut the image")
    return objects_HW.astype("uint16")
