"""Ranks the images and objects outside test whose labels disagree with predictions out of fold.

A person's command, not a graph stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from segops.contracts.suspects import (
    SUSPECT_IMAGE_COLUMNS,
    SUSPECT_IMAGES_FILE,
    SUSPECT_REGION_COLUMNS,
    SUSPECT_REGIONS_FILE,
    Suspects,
)
from segops.contracts.tables import write_csv
from segops.data.annotations.written import Annotated, Shape, cvat_xml, geojson, napari_shapes
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.runtime import RuntimeParams
from segops.progress import track
from segops.reports.suspects_page import PAGE, Seen, suspects_page

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from segops.data.arrays import PreparedData
    from segops.evaluation.label_errors import Region
    from segops.inference.predict import Predictor

CVAT_FILE, QUPATH, NAPARI = "cvat.xml", "qupath", "napari"
_DECIMALS = 2


class Found(NamedTuple):
    """Holds an image's rows of the two tables, and its regions."""

    row: int
    about: dict[str, Any]
    regions: list[Region]


def suspects(
    runtime: RuntimeParams, *, dataset: Path, prepared: Path, model: Path, report: Path, tolerance_px: int = 2
) -> Suspects:
    """Rank all images outside test, each judged by the model that hasn't seen its fold; see `label_errors`.

    Writes suspects.json, images.csv, regions.csv, a page with the first images, and the regions of each image for
    QuPath (GeoJSON), napari (CSV of shapes) and CVAT (one XML) to `report`, which is replaced as a whole.

    Args:
        tolerance_px: how far a border may lie beside the predicted one.

    Raises:
        UserError: the candidate has no models of folds, was trained on other data, or the data are volumes.
    """
    from segops.data.arrays import PreparedData
    from segops.data.manifest import read_manifest
    from segops.inference.device import inference_device
    from segops.inference.predict import Predictor
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    data = PreparedData.open(prepared)
    data.verify_pixels()
    predictor = Predictor.load(model, device=inference_device(runtime.device))
    _fits(predictor, data, model)
    _, manifest = read_manifest(dataset)
    files = dict(zip(manifest["image_id"], manifest["source_image"], strict=True))
    thresholds = _thresholds(predictor, data)
    with output_folder(report) as folder, run_record(folder, "suspects"):
        found, joint = _search(predictor, data, thresholds, tolerance_px, files)
        found.sort(key=lambda image: (-image.about["score"], image.about["image_id"]))
        result = Suspects(
            candidate=predictor.model.candidate,
            weights_sha256=predictor.model.weights_sha256,
            manifest_sha256=data.meta.manifest_sha256,
            classes=data.meta.classes,
            tolerance_px=tolerance_px,
            thresholds=[None if value == float("inf") else round(float(value), 6) for value in thresholds],
            confident_joint=joint.tolist(),
            images=len(found),
            suspect_images=sum(bool(image.regions) for image in found),
            regions=sum(len(image.regions) for image in found),
        )
        result.save(folder)
        _write_lists(found, data, folder)
        write_text(folder / PAGE, suspects_page(result, [_seen(image, data) for image in found], data.meta))
    return result


def _fits(predictor: Predictor, data: PreparedData, model: Path) -> None:
    """Raise UserError unless the candidate has models of the folds of these data, which are pictures."""
    candidate = predictor.model.candidate
    if data.meta.dimensions == 3:
        raise UserError("segops suspects looks at pictures; these data are volumes")
    if not predictor.folds:
        raise UserError(
            f"'{candidate}' has no model that hasn't seen an image: set candidates.{candidate}.cross_validation to "
            "scores or ensemble and train it again (`dvc repro`)"
        )
    if predictor.model.assignment_sha256 != data.meta.assignment_sha256:
        raise UserError(f"{model}: '{candidate}' was trained on other data or another split; train it again")


def _judged(predictor: Predictor, data: PreparedData, what: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield the row and the probabilities KHW of each image outside test, by the model that hasn't seen its fold."""
    from segops.evaluation.label_errors import all_classes

    for row in track(sorted(data.rows("train") + data.rows("val")), what):
        yield row, all_classes(predictor.out_of_fold(data.fold(row)).probability(data.image(row)))


def _thresholds(predictor: Predictor, data: PreparedData) -> npt.NDArray[np.float64]:
    """Measure how sure the models are of each class where it is labelled."""
    from segops.evaluation.label_errors import ClassThresholds

    gathered = ClassThresholds(len(data.meta.classes))
    for row, probability_KHW in _judged(predictor, data, "suspects: thresholds"):
        gathered.add(probability_KHW, data.mask(row))
    return gathered.values


def _search(
    predictor: Predictor,
    data: PreparedData,
    thresholds: npt.NDArray[np.float64],
    tolerance_px: int,
    files: dict[str, str],
) -> tuple[list[Found], npt.NDArray[np.int64]]:
    """Find each image's regions and score, and count the confident joint; predicting anew is cheaper than keeping."""
    import numpy as np

    from segops.evaluation.joined_objects import joined_objects
    from segops.evaluation.label_errors import confident_class, confident_joint, image_score, suspect_regions
    from segops.evaluation.metrics import image_dice

    classes = len(data.meta.classes)
    joint, found = np.zeros((classes, classes), np.int64), []
    for row, probability_KHW in _judged(predictor, data, "suspects: regions"):
        label_HW = data.mask(row)
        confident_HW = confident_class(probability_KHW, thresholds)
        joint += confident_joint(label_HW, confident_HW, classes)
        predicted_HW = probability_KHW.argmax(axis=0).astype(np.uint8)
        pixels = suspect_regions(label_HW, probability_KHW, confident_HW, tolerance_px)
        joined = joined_objects(label_HW, data.objects(row), predicted_HW, confident_HW, tolerance_px)
        regions = sorted(pixels + joined, key=lambda region: (-region.weight_px, region.outline))
        entry = data.index.iloc[row]
        about = {
            **{name: str(entry[name]) for name in ("image_id", "group_id", "subset")},
            "source_image": files[str(entry["image_id"])],
            "score": image_score(label_HW, confident_HW, regions),
            "regions": len(regions),
            "dice": round(float(image_dice(label_HW, predicted_HW, classes)), 6),
        }
        found.append(Found(row, about, regions))
    return found, joint


def _write_lists(found: list[Found], data: PreparedData, folder: Path) -> None:
    """Write the two tables, and the regions in the forms of programs that mend labels."""
    import pandas as pd

    classes = data.meta.classes
    rows = [
        {
            "image_id": image.about["image_id"],
            "given": classes[region.given],
            "suggested": classes[region.suggested],
            "area_px": region.area_px,
            "weight_px": region.weight_px,
            **dict(zip(("top", "left", "bottom", "right"), region.box, strict=True)),
        }
        for image in found
        for region in image.regions
    ]
    heaviest = sorted(rows, key=lambda row: (-row["weight_px"], row["image_id"], row["top"], row["left"]))
    about = pd.DataFrame([image.about for image in found], columns=list(SUSPECT_IMAGE_COLUMNS))
    write_csv(about, folder / SUSPECT_IMAGES_FILE)
    write_csv(pd.DataFrame(heaviest, columns=list(SUSPECT_REGION_COLUMNS)), folder / SUSPECT_REGIONS_FILE)
    annotated = {}
    for image in found:
        if image.regions:
            name = image.about["image_id"]
            shapes = [Shape(region.words(classes), region.outline) for region in image.regions]
            write_text(folder / QUPATH / f"{name}.geojson", geojson(shapes))
            write_text(folder / NAPARI / f"{name}.csv", napari_shapes(shapes))
            height, width = data.size(image.row)
            annotated[name] = Annotated(image.about["source_image"], height, width, shapes)
    write_text(folder / CVAT_FILE, cvat_xml(annotated))


def _seen(image: Found, data: PreparedData) -> Seen:
    """Give the page an image's pixels when it asks for them."""
    return Seen(image.about, image.regions, lambda: (data.image(image.row), data.mask(image.row)))
