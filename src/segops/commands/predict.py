"""Predicts masks for images of any supported format and size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segops.commands.backends import use_backend
from segops.commands.predict_inputs import (
    display_name,
    objects_path,
    open_pixels,
    opened_ahead,
    overlay_path,
    plan,
    say_skipped,
    stacked,
)
from segops.commands.predict_volumes import VolumeTask, segment_volume, volume_tasks
from segops.commands.used_model import used_model
from segops.contracts.tables import PREDICTION_COLUMNS, PREDICTIONS_FILE, six_decimals, write_csv
from segops.errors import UserError
from segops.files import atomic_path
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say, track

if TYPE_CHECKING:
    import numpy.typing as npt

    from segops.data.image_rows import ImageRows
    from segops.inference.predict import Maps, Predictor

_SHOWN = 5
_MOST_OBJECTS = 2**16 - 1


@dataclass(frozen=True)
class PredictRequest:
    """What is segmented, with which model, and where the masks go.

    Attributes:
        model: an alias or version of the registered model, or a folder with model.json and weights.safetensors.
        inputs: image files, and folders that are searched with their subfolders.
        out: gets `<stem>.png` for each image, under the same subfolders as below the given folder.
        overlays: also write `<stem>.overlay.png`, the image tinted and outlined in the colours of the classes.
        uint16_bits: that 16-bit samples use, for a model that has seen none.
        backend: what runs the network; see `use_backend`.
        exported: the folder of a `segops export`; None: what the version keeps.
    """

    model: str
    runtime: RuntimeParams
    tracking: TrackingParams
    inputs: list[Path]
    out: Path
    overlays: bool
    uint16_bits: int | None = None
    backend: str = "torch"
    exported: Path | None = None


def predict(request: PredictRequest, *, table: bool = False) -> list[Path]:
    """Segment files and folders with a registered model or a candidate's folder.

    Args:
        table: also write predictions.csv.

    Returns:
        The files written. A mask is uint8: 0 and 255 for two classes; class indices for more, in a PNG whose palette
        holds the colours of the classes. A candidate that tells objects apart also gives `<stem>.objects.png`, uint16:
        0 background, then a number for each object. Of a volume the mask is `<stem>.nii.gz`, class indices with the
        source's affine, or `<folder>.seg.dcm` of a DICOM series, and objects are `<stem>.objects.nii.gz`.

    Raises:
        UserError: before anything is written for a missing input, two inputs with the same output, an output that is
            an input, no image at all; at the end for images that can't be read, after the others are done.
    """
    out, done = request.out, segment_all(request)
    if table:
        write_predictions(done, out)
    bad = [Path(image.image).name for image in done if image.error]
    if bad:
        more = ", ..." if len(bad) > _SHOWN else ""
        raise UserError(
            f"{len(bad)} of {len(done)} images can't be read ({', '.join(bad[:_SHOWN])}{more}; see above); "
            f"the masks of the others are in {out}"
        )
    return [*(path for image in done for path in image.files), *([out / PREDICTIONS_FILE] if table else [])]


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


class _Tasks(NamedTuple):
    """What is to be segmented: how many, each one's name and how, and the files that are read."""

    total: int
    each: Iterable[tuple[str, Callable[[], Segmented]]]
    files: set[Path]


def segment_all(request: PredictRequest) -> list[Segmented]:
    """Do what `predict` does, but report an image that can't be read on stderr and in the result.

    Raises: UserError: as `predict` before anything is written.
    """
    from segops.inference.device import inference_device
    from segops.inference.predict import Predictor
    from segops.training.process import prepare_process

    prepare_process(request.runtime.threads)
    with used_model(request.model, request.tracking) as used:
        predictor = Predictor.load(used.folder, device=inference_device(request.runtime.device))
        backend = use_backend(
            predictor, request.backend, used, request.exported, request.tracking, request.runtime.threads
        )
        say(f"predict: {used.shown}, {backend}")
    if request.uint16_bits is not None:
        predictor = predictor.with_bits(request.uint16_bits)
    tasks = (_volumes if predictor.model.dimensions == 3 else _pictures)(predictor, request)
    done = []
    for image, segment in track(tasks.each, "predict", total=tasks.total):
        try:
            done.append(segment())
        except UserError as error:
            say(str(error))
            done.append(Segmented(image, error=str(error)))
    say_skipped(request.inputs, tasks.files, request.out)
    return done


def _pictures(predictor: Predictor, request: PredictRequest) -> _Tasks:
    """List the pictures to segment by their names, and their files."""
    work = plan(request.inputs, request.out, overlays=request.overlays)
    stacks = list(stacked(work, predictor.model.stack).items())
    rules = predictor.model.files
    images = opened_ahead(partial(open_pixels, paths, rules, target.parent) for paths, target in stacks)

    def segment(opened: Callable[[], ImageRows], path: Path, target: Path, image: str) -> Segmented:
        return predict_image(predictor, opened(), path, target, image, overlays=request.overlays)

    def each() -> Iterator[tuple[str, Callable[[], Segmented]]]:
        for (paths, target), opened in zip(stacks, images, strict=True):
            image = display_name(paths[0], request.inputs)
            yield image, partial(segment, opened, paths[0], target, image)

    return _Tasks(len(stacks), each(), set(work))


def _volumes(predictor: Predictor, request: PredictRequest) -> _Tasks:
    """List the volumes to segment by their names, and their files."""
    volumes = volume_tasks(request.inputs, request.out, predictor.model.stack)
    each = [(task.name, partial(predict_volume, predictor, task, overlays=request.overlays)) for task in volumes]
    return _Tasks(len(volumes), each, {path for task in volumes for files in task.channels for path in files})


def predict_volume(predictor: Predictor, task: VolumeTask, *, overlays: bool) -> Segmented:
    """Write a volume's mask, its objects where the candidate tells them apart, and its overlay where asked.

    Raises: UserError for files that can't be read.
    """
    from segops.evaluation.features import prediction_features

    segmented = segment_volume(predictor, task, overlays=overlays)
    _write(segmented.files)
    height, width = segmented.mask_DHW.shape[1:]
    fraction, confidence = prediction_features(segmented.probability_KDHW, segmented.mask_DHW).values()
    return Segmented(task.name, tuple(segmented.files), height, width, fraction, confidence, segmented.objects)


def write_predictions(done: list[Segmented], out: Path) -> None:
    """Write predictions.csv beside the masks."""
    import pandas as pd

    rows = [
        {**vars(image), "mask": image.files[0].relative_to(out).as_posix() if image.files else None} for image in done
    ]
    table = pd.DataFrame(rows)[list(PREDICTION_COLUMNS)]
    table = table.astype(dict.fromkeys(("height", "width", "objects"), "Int64"))
    write_csv(six_decimals(table), out / PREDICTIONS_FILE)


def predict_image(
    predictor: Predictor, rows: ImageRows, path: Path, target: Path, image: str, *, overlays: bool
) -> Segmented:
    """Write an image's mask, its objects where the candidate tells them apart, and its overlay where asked.

    Args:
        rows: of the image.
        path: its file, for messages.
        target: the mask's file.
        image: its name in the result.

    Raises: UserError for another kind of image, or more objects than uint16 can number.
    """
    from segops.inference.predict import whole

    try:
        if predictor.decides_by_pixel and not overlays:
            return _written_by_rows(predictor, rows, target, image)
        maps = whole(predictor.strips(rows))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return _written_whole(predictor, rows, maps, target, image, path, overlays=overlays)


def _written_by_rows(predictor: Predictor, rows: ImageRows, target: Path, image: str) -> Segmented:
    """Write the mask as its rows are predicted, so that nothing of the image's size is held."""
    from segops.evaluation.features import PredictionTally
    from segops.pictures.png_file import write_mask

    tally = PredictionTally()

    def strips() -> Iterator[npt.NDArray[np.uint8]]:
        for probability_KhW, _ in predictor.strips(rows):
            mask_hW = predictor.decide(probability_KhW)
            tally.add(probability_KhW, mask_hW)
            yield _shown(mask_hW, predictor)

    with atomic_path(target) as unfinished:
        write_mask(unfinished, (rows.height, rows.width), strips(), _palette(predictor))
    fraction, confidence = tally.features().values()
    return Segmented(image, (target,), rows.height, rows.width, fraction, confidence)


def _written_whole(
    predictor: Predictor, rows: ImageRows, maps: Maps, target: Path, image: str, path: Path, *, overlays: bool
) -> Segmented:
    """Write what needs the whole mask: one that is cleaned or cut by Otsu, objects, an overlay."""
    from segops.evaluation.features import prediction_features
    from segops.pictures.images import overlay, png
    from segops.pictures.png_file import write_mask

    mask_HW, objects = predictor.decide(maps.probability_KHW), None
    files: dict[Path, bytes] = {}
    objects_HW = predictor.objects(mask_HW, maps)
    if objects_HW is not None:
        numbered_HW = _numbered(objects_HW, path)
        files[objects_path(target)], objects = png(numbered_HW), int(numbered_HW.max(initial=0))
    if overlays:
        drawn = overlay(rows.whole(), mask_HW, predictor.model.class_colours, objects_HW=objects_HW)
        files[overlay_path(target)] = png(drawn)
    with atomic_path(target) as unfinished:
        write_mask(unfinished, mask_HW.shape, [_shown(mask_HW, predictor)], _palette(predictor))
    _write(files)
    fraction, confidence = prediction_features(maps.probability_KHW, mask_HW).values()
    return Segmented(image, (target, *files), rows.height, rows.width, fraction, confidence, objects)


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
