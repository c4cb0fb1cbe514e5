"""Measures drift: are new images like those that a model was made for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from segops.commands.predict_inputs import images_in, read_pixels, stacked
from segops.commands.predict_volumes import read_task
from segops.commands.used_model import UsedModel, used_model
from segops.commands.volume_inputs import volume_tasks
from segops.contracts.usage import Drift, Reference
from segops.contracts.volumes import Spacing
from segops.errors import UserError, reworded
from segops.files import output_folder, run_record, write_text
from segops.params.drift import DriftParams
from segops.params.file_rules import FileRules
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say, track

if TYPE_CHECKING:
    from segops.inference.predict import Predictor

_Array = npt.NDArray[Any]
_Read = Callable[[], tuple[_Array, Spacing | None]]

DRIFTED = 4  # the command's exit code
_THUMBNAIL_PX = 160


def drift(
    model: str,
    params: DriftParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    images: Path,
    report: Path,
    reference: Path | None = None,
) -> Drift:
    """Compare a folder of new images with a model's training images and predictions.

    Args:
        model: an alias or version of the registered model, or a candidate's folder.
        images: searched with its subfolders.
        report: for drift.json, index.html and run.json; replaced as a whole.
        reference: the folder with reference.json; None: the version's own.

    Raises:
        UserError: no such model or folder, too few images, an unreadable image, a reference of another model.
    """
    from segops.evaluation.drift import compare_features, unusual_images
    from segops.inference.device import inference_device
    from segops.inference.predict import Predictor
    from segops.reports.drift_page import PAGE, drift_page
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    with used_model(model, tracking, () if reference else (Reference.FILE,)) as used:
        expected = Reference.load(reference or used.folder)
        predictor = Predictor.load(used.folder, device=inference_device(runtime.device))
    _same_model(predictor, expected, used, reference)
    say(f"drift: {used.shown}")
    new = _images(images, predictor, params, report)
    with output_folder(report) as folder, run_record(folder, "drift"):
        rows = [_features(predictor, name, new[name]) for name in track(list(new), "drift")]
        result = Drift(
            candidate=expected.candidate,
            weights_sha256=expected.weights_sha256,
            model_name=used.model_name,
            version=used.version,
            images=len(rows),
            training_images=expected.training_images,
            validation_images=expected.validation_images,
            validation_groups=expected.validation_groups,
            distance=params.distance,
            alpha=params.alpha,
            features=compare_features(expected, rows, params),
            unusual=unusual_images(expected, rows, list(new), params.shown_images),
        )
        result.save(folder)
        pictures = {image.image: _picture(predictor, image.image, new[image.image]) for image in result.unusual}
        name = used.shown if used.version else result.candidate  # no path of this machine on the page
        write_text(folder / PAGE, drift_page(result, expected, name, rows, pictures))
    return result


def _same_model(predictor: Predictor, expected: Reference, used: UsedModel, reference: Path | None) -> None:
    """Raise UserError for a reference that is of other weights than the model."""
    if predictor.model.weights_sha256 != expected.weights_sha256:
        raise UserError(
            f"{(reference or used.folder) / Reference.FILE} is of other weights than {used.shown}; point --reference "
            "at the report of that candidate"
        )


def _images(images: Path, predictor: Predictor, params: DriftParams, report: Path) -> dict[str, _Read]:
    """Return what reads each image by its path below the folder; several files where channels have their own."""
    if not images.is_dir():
        raise UserError(f"{images}: no such folder; segops drift takes a folder of images")
    rules, stack = predictor.model.files, predictor.model.stack
    read: dict[str, _Read] = {}
    if predictor.model.dimensions == 3:
        read = {task.name: partial(read_task, task, rules) for task in volume_tasks([images], report, stack, rules)}
    else:
        stacks = stacked({path: path for path in images_in(images, report)}, stack)
        for paths, target in stacks.items():
            read[target.relative_to(images).as_posix()] = partial(_read_picture, paths, rules)
    if len(read) < params.min_images:
        raise UserError(
            f"{images}: {len(read)} images can't show a drift; give at least {params.min_images}, or lower "
            "drift.min_images"
        )
    return read


def _read_picture(paths: tuple[Path, ...], rules: FileRules) -> tuple[_Array, None]:
    """Read an image, which has no spacing of voxels."""
    return read_pixels(paths, rules), None


def _features(predictor: Predictor, name: str, read: _Read) -> dict[str, float]:
    """Measure the features of an image and of its prediction."""
    from segops.evaluation.features import image_features, prediction_features

    image_HWC, probability_KHW, _ = _predicted(predictor, name, read)
    of_image = image_features(image_HWC, predictor.model, predictor.program.channels)
    return of_image | prediction_features(probability_KHW, predictor.decide(probability_KHW))


def _picture(predictor: Predictor, name: str, read: _Read) -> str:
    """Draw an image with its prediction, of a volume three planes, as a thumbnail's data URI."""
    from segops.pictures.images import overlay, thumbnail_uri
    from segops.pictures.planes import planes_of

    image_HWC, probability_KHW, spacing_mm = _predicted(predictor, name, read)
    mask_HW = predictor.decide(probability_KHW)
    show = planes_of(mask_HW, mask_HW, spacing_mm)
    picture = overlay(show(image_HWC), show(mask_HW), predictor.model.class_colours)
    return thumbnail_uri(picture, _THUMBNAIL_PX, photo=True)


def _predicted(predictor: Predictor, name: str, read: _Read) -> tuple[_Array, _Array, Spacing | None]:
    """Read an image and predict its probabilities. Raises UserError naming the file."""
    image_HWC, spacing_mm = read()
    with reworded(lambda text: f"{name}: {text}"):
        return image_HWC, predictor.probability(image_HWC, spacing_mm), spacing_mm
