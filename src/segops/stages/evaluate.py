"""Scores a candidate on validation and test at native size, with intervals. The test set is only shown."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segops.contracts.base import Subset
from segops.contracts.evaluation import Evaluation
from segops.contracts.masks import IGNORED
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import MICROMETRE_COLUMNS, PER_IMAGE_FILE, VOLUME_COLUMNS, per_image_columns
from segops.contracts.prepared import Prepared
from segops.contracts.scores import Interval, mean_of
from segops.contracts.tables import OUT_OF_FOLD, six_decimals, write_csv
from segops.errors import UserError
from segops.files import output_folder, run_record, write_json, write_text
from segops.params.evaluate import EvaluateParams
from segops.params.runtime import RuntimeParams
from segops.progress import track

if TYPE_CHECKING:
    from segops.data.arrays import PreparedData
    from segops.evaluation.subset_scores import Measured
    from segops.inference.predict import Predictor
    from segops.pictures.thumbnails import ThumbnailWriter
    from segops.reports.gallery import Example

GALLERY_FILE = "gallery.html"
SCORES_FILE = "scores.json"
_Judged = Subset | Literal["out_of_fold"]
_COUNTS = ("objects", "predicted_objects", "splits", "merges")
_HEADLINE = ("dice", "iou", "precision", "recall", "false_positive_share", "hd95_px")


def evaluate(
    params: EvaluateParams, runtime: RuntimeParams, *, prepared: Path, model: Path, report: Path
) -> Evaluation:
    """Score a candidate on validation and test, and write its report.

    Writes metrics.json, scores.json, per_image.csv, reference.json, curves/, gallery.html, thumbnails.zip, and
    predictions/ and explanations/ of the same few test images for every candidate, beside other stages' files in
    `report`; run.json says under `cost` what time an image takes (`inference.cost.Cost`).

    Raises:
        UserError: the model is missing, damaged, or was trained on another split of the data; or no image of validation
            or of test has foreground.
    """
    from segops.data.arrays import PreparedData
    from segops.evaluation.features import make_reference
    from segops.evaluation.published import published_mean
    from segops.evaluation.subset_scores import summarize
    from segops.inference.cost import measure_cost
    from segops.inference.device import inference_device
    from segops.inference.predict import Predictor
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    data = PreparedData.open(prepared)
    data.verify_pixels()
    predictor = Predictor.load(model, device=inference_device(runtime.device))
    _same_data(predictor.model, data.meta, model)
    data.require_foreground(data.rows("val"), "validation")
    data.require_foreground(data.rows("test"), "test")
    with output_folder(report, merge=True) as folder, run_record(folder, "evaluate") as record:
        record["cost"] = measure_cost(predictor)._asdict()
        with _thumbnails(data, params.thumbnails, folder) as thumbnails:
            val, test = (_measure(predictor, data, subset, params, thumbnails) for subset in ("val", "test"))
        folds = _measure(predictor, data, OUT_OF_FOLD, params) if predictor.folds else None
        evaluation = Evaluation(
            candidate=predictor.model.candidate,
            key=predictor.model.key,
            weights_sha256=predictor.model.weights_sha256,
            test_sha256=data.meta.test_sha256,
            protocol=data.meta.protocol,
            classes=data.meta.classes,
            threshold=predictor.model.threshold,
            confidence=params.confidence,
            val=summarize(val, params),
            test=summarize(test, params),
            out_of_fold=summarize(folds, params) if folds else None,
            published=published_mean(test.published) if test.published else None,
        )
        evaluation.save(folder)
        write_json(folder / SCORES_FILE, headline(evaluation))
        make_reference(predictor.model, data, predictor.program.channels, val.features).save(folder)
        _write_tables(evaluation, [measured for measured in (val, test, folds) if measured], val, test, folder)
        _write_gallery(evaluation, predictor, data, (val, test), params.gallery_images, folder)
    return evaluation


def headline(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """Return the few figures by subset that `dvc metrics` and `dvc exp show` print as columns of a line."""
    figures: dict[str, dict[str, float | None]] = {}
    for subset, scores in evaluation.subsets.items():
        named = {name: getattr(scores, name) for name in _HEADLINE}
        figures[subset] = {name: value.mean if isinstance(value, Interval) else value for name, value in named.items()}
        if scores.volumes:
            surface = mean_of(scores.volumes.surface_dice)
            figures[subset] |= {"hd95_mm": scores.volumes.hd95_mm, "surface_dice": surface}
        if scores.instances:
            figures[subset] |= {"ap": scores.instances.ap.mean, "pq": mean_of(scores.instances.pq)}
        figures[subset] |= {f"dice_{name}": mean_of(of_class.dice) for name, of_class in scores.by_class.items()}
    return figures


def _same_data(model: TrainedModel, data: Prepared, folder: Path) -> None:
    """Refuse a model that may have seen these test images."""
    for name in ("assignment_sha256", "test_sha256"):
        if getattr(model, name) != getattr(data, name):
            raise UserError(
                f"{folder / model.FILE}: '{model.candidate}' was trained on another split than the prepared data's "
                f"({name} differs); run train again (`dvc repro`)"
            )


def _thumbnails(data: PreparedData, most: int, folder: Path) -> ThumbnailWriter:
    """Open the writer of thumbnails for up to `most` images of validation and test."""
    from segops.pictures.thumbnails import THUMBNAILS_FILE, ThumbnailWriter, chosen

    held_out = data.index.loc[data.index["subset"] != "train", "image_id"].tolist()
    return ThumbnailWriter(folder / THUMBNAILS_FILE, chosen(held_out, most))


def _measure(
    predictor: Predictor,
    data: PreparedData,
    subset: _Judged,
    params: EvaluateParams,
    thumbnails: ThumbnailWriter | None = None,
) -> Measured:
    """Predict and score the images of a subset in turn, or those outside test out of fold."""
    import pandas as pd

    from segops.evaluation.calibration import confidence_of
    from segops.evaluation.confusion import confusion
    from segops.evaluation.features import prediction_features
    from segops.evaluation.metrics import image_scores
    from segops.evaluation.micrometres import micrometre_scores
    from segops.evaluation.published import PUBLISHED_SIZE, image_published_scores, published_truth
    from segops.evaluation.subset_scores import Measured
    from segops.evaluation.volume_scores import volume_scores
    from segops.inference.cleaning import foreground_of
    from segops.pictures.planes import planes_of

    rows: list[dict[str, Any]] = []
    classes, volumes = data.meta.classes, data.meta.dimensions == 3
    in_um = any(data.pixel_um(i) for i in range(len(data.index)))
    measured = Measured(classes, index=data.index)
    judge = predictor.out_of_fold if subset == OUT_OF_FOLD else predictor.validating
    for i in track(_images(data, subset), f"evaluate {subset}"):
        image_HWC, truth_HW, spacing_mm = data.image(i), data.mask(i), data.spacing_mm(i)
        maps = judge(data.fold(i)).maps(image_HWC, spacing_mm)
        probability_KHW = maps.probability_KHW
        predicted_HW = predictor.decide(probability_KHW)
        row = {str(name): value for name, value in data.index.iloc[i].items()} | {"subset": subset}
        row |= image_scores(truth_HW, predicted_HW, classes, in_pixels=spacing_mm is None)
        if volumes:
            row |= volume_scores(truth_HW, predicted_HW, spacing_mm, len(classes), params.surface_tolerance_mm)
        if in_um:
            row |= micrometre_scores(truth_HW, predicted_HW, len(classes), row, data.pixel_um(i))
        objects_HW = predictor.objects(predicted_HW, maps)
        if objects_HW is not None:
            row |= measured.matched.add(truth_HW, predicted_HW, objects_HW, len(classes), data.objects(i))
        rows.append(row)
        if thumbnails:
            show = planes_of(truth_HW, predicted_HW, spacing_mm)
            others: dict[str, Any] = {
                "truth_objects_HW": data.objects(i),
                "predicted_objects_HW": objects_HW,
                "confidence_HW": confidence_of(probability_KHW),
            }
            seen = {name: array if array is None else show(array) for name, array in others.items()}
            thumbnails.add(row["image_id"], show(image_HWC), show(truth_HW), show(predicted_HW), **seen)
        measured.features.append(prediction_features(probability_KHW, predicted_HW))
        measured.tally.add(foreground_of(probability_KHW), truth_HW)
        measured.reliability.add(probability_KHW, truth_HW)
        measured.ignored_px += int((truth_HW == IGNORED).sum())
        measured.confused.add(confusion(truth_HW, predicted_HW, len(classes)))
        if subset == "test" and data.meta.protocol == "published" and (truth_HW != IGNORED).any():
            probability_hw = predictor.stretched(image_HWC, PUBLISHED_SIZE)
            measured.published.append(image_published_scores(published_truth(truth_HW), probability_hw))
    columns = (*per_image_columns(classes), *(VOLUME_COLUMNS if volumes else MICROMETRE_COLUMNS if in_um else ()))
    table = pd.DataFrame(rows, columns=list(columns)).sort_values("image_id", ignore_index=True)
    measured.table = table.astype(dict.fromkeys(_COUNTS, "Int64"))
    return measured


def _images(data: PreparedData, subset: _Judged) -> list[int]:
    """Return the rows of a subset, or of all images outside test out of fold."""
    return sorted(data.rows("train") + data.rows("val")) if subset == OUT_OF_FOLD else data.rows(subset)


def _write_tables(evaluation: Evaluation, every: list[Measured], val: Measured, test: Measured, folder: Path) -> None:
    """Write per_image.csv and the curves."""
    import pandas as pd

    from segops.evaluation.calibration import reliability_table
    from segops.evaluation.object_scores import instance_table
    from segops.evaluation.subset_scores import confusion_table

    subsets = evaluation.subsets
    tables = {
        PER_IMAGE_FILE: pd.concat([measured.table for measured in every]),
        "curves/pr.csv": test.tally.pr_table(),
        "curves/roc.csv": test.tally.roc_table(),
        "curves/threshold.csv": val.tally.dice_table("val"),
        "curves/confusion.csv": confusion_table(
            {name: scores.confusion for name, scores in subsets.items()}, evaluation.classes
        ),
        "curves/reliability.csv": reliability_table({name: scores.reliability for name, scores in subsets.items()}),
        "curves/instances.csv": instance_table(
            {name: scores.instances for name, scores in subsets.items() if scores.instances}
        ),
    }
    for name, table in tables.items():
        write_csv(six_decimals(table), folder / name)


def _write_gallery(
    evaluation: Evaluation,
    predictor: Predictor,
    data: PreparedData,
    measured: tuple[Measured, Measured],
    each: int,
    folder: Path,
) -> None:
    """Write the gallery; its images are predicted again, which is cheaper than holding every prediction."""
    from segops.evaluation.calibration import confidence_of
    from segops.evaluation.volume_scores import volumes_by_class
    from segops.files import atomic_path
    from segops.pictures.choice import choose_examples, choose_shared
    from segops.pictures.explanations import Explainer
    from segops.pictures.images import png
    from segops.pictures.planes import film, planes_of
    from segops.reports.gallery import Example, explanation, gallery_page, triptych

    table = measured[1].table
    position = {str(name): i for i, name in enumerate(data.index["image_id"])}
    rows = table.set_index("image_id", drop=False).to_dict("index")
    explainer = Explainer(predictor)

    @cache  # an image can be in a section and among the shared examples
    def example(image_id: str) -> Example:
        at = position[image_id]
        image_HWC, truth_HW, spacing_mm = data.image(at), data.mask(at), data.spacing_mm(at)
        row = {str(key): value for key, value in rows[image_id].items()}
        maps = predictor.maps(image_HWC, spacing_mm)
        probability_KHW = maps.probability_KHW
        predicted_HW = predictor.decide(probability_KHW)
        objects = data.objects(at), predictor.objects(predicted_HW, maps)
        show = planes_of(truth_HW, predicted_HW, spacing_mm)
        explained = explainer.explain(image_HWC, spacing_mm)
        return Example(
            row,
            show(image_HWC),
            show(truth_HW),
            predicted=show(predicted_HW),
            truth_objects=None if objects[0] is None else show(objects[0]),
            predicted_objects=None if objects[1] is None else show(objects[1]),
            confidence=show(confidence_of(probability_KHW)),
            gradcam=None if explained is None else show(explained),
            class_colours=predictor.model.class_colours,
            film=film(image_HWC, truth_HW, predicted_HW, spacing_mm) if truth_HW.ndim == 3 else [],
        )

    sections = {name: [example(image_id) for image_id in ids] for name, ids in choose_examples(table, each).items()}
    shared = {image_id: example(image_id) for image_id in choose_shared(table, each)}
    for image_id, chosen in shared.items():
        explained = explanation(chosen, explainer.says_something)
        for name, picture in (("predictions", triptych(chosen)), ("explanations", explained)):
            with atomic_path(folder / name / f"{image_id}.png") as partial:
                partial.write_bytes(png(picture))
    classes = evaluation.classes
    volumes = [volumes_by_class(half.table, data.index, classes) for half in measured if evaluation.test.volumes]
    page = gallery_page(evaluation, predictor.model, data.meta, sections, explainer, volumes)
    write_text(folder / GALLERY_FILE, page)
