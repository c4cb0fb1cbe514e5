"""What a finished candidate's run holds: scores, epochs, dataset, tables, pictures and pages, all from its files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segops.evaluation.thumbnails import THUMBNAILS_FILE
from segops.files import sha256_file, sha256_lines
from segops.model_contracts import Evaluation, Registration, TrainedModel
from segops.scores import Interval, SubsetScores
from segops.tables import HISTORY_FILE, slugs
from segops.tracking import model as models
from segops.tracking import runs
from segops.tracking.spool import EpochMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

TABLE_FILE = "per_image.json"
PICTURES = ("triptychs", "explanations")
_REPORT_TAG = "segops.report"
NATIVE = ("val/native_", "test/")  # what the scores at native size begin with
_OWN = {"run.json", Registration.FILE, THUMBNAILS_FILE}  # what isn't a report to look at


def open_run(client: MlflowClient, experiment: str, model: TrainedModel, evaluation: Evaluation) -> Run:
    """The candidate's run with everything that names its origin."""
    return runs.open_run(
        client,
        experiment=experiment,
        candidate=model.candidate,
        key=model.key,
        params=model.params,
        tags={
            "dataset": model.dataset,
            "source": model.source,
            **({"source_revision": model.source_revision} if model.source_revision else {}),
            "protocol": model.protocol,
            "manifest_sha256": model.manifest_sha256,
            "test_sha256": model.test_sha256,
            "weights_sha256": model.weights_sha256,
            "mlflow.note.content": _note(model, evaluation),
        },
    )


def log_candidate(client: MlflowClient, run: Run, *, model: Path, report: Path, model_id: str | None) -> None:
    """Log a candidate's files to its run; what the run holds already stays one row, one table, one picture."""
    trained, evaluation = TrainedModel.load(model), Evaluation.load(report)
    runs.log_epochs(client, run.info.run_id, read_history(model, run.info.start_time), runs.stored_steps(client, run))
    client.log_inputs(run.info.run_id, datasets=_datasets(trained))
    folds = evaluation.out_of_fold
    scores = {
        "out_of_fold/": subset_scores(folds, evaluation.shown_classes) if folds else {},
        "val/native_": subset_scores(evaluation.val, evaluation.shown_classes),
        "test/": subset_scores(evaluation.test, evaluation.shown_classes),
        "published/": evaluation.published.model_dump() if evaluation.published else {},
        "model/": {"parameters": trained.parameters, "threshold": trained.threshold, "best_epoch": trained.best_epoch},
    }
    for prefix, values in scores.items():
        dataset = _test_set(trained) if prefix in ("test/", "published/") else None
        named = {f"{prefix}{name}": value for name, value in values.items()}
        runs.log_scores(client, run, named, model_id=model_id, dataset=dataset)
    _log_files(client, run, model, report, evaluation)
    if run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id, "FINISHED")


def subset_scores(scores: SubsetScores, classes: Sequence[str]) -> dict[str, float | None]:
    """A subset's figures by metric name; Dice with its interval, by modality (`dice_<modality>`) and by class.

    Args:
        classes: the foreground classes that get `class_dice_<class>` and `class_iou_<class>`.
    """
    named: dict[str, float | None] = {"dice_low": scores.dice.low, "dice_high": scores.dice.high}
    for name, value in scores:
        if isinstance(value, Interval):
            named[name] = value.mean
        elif value is None or isinstance(value, float):
            named[name] = value
    named |= {f"dice_{modality}": value.mean for modality, value in sorted(scores.by_modality.items())}
    if scores.instances:
        named |= {"ap": scores.instances.ap.mean, "ap50": scores.instances.ap50.mean}
    for name, slug in zip(classes, slugs(classes), strict=True):
        own = scores.by_class[name]
        named |= {f"class_dice_{slug}": own.dice.mean, f"class_iou_{slug}": own.iou.mean}
    return named


def read_history(model: Path, started_ms: int) -> list[EpochMetrics]:
    """history.csv as epochs. It holds no times: each epoch counts one second from the run's start."""
    with (model / HISTORY_FILE).open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [EpochMetrics(int(row["epoch"]), started_ms + 1000 * int(row.pop("epoch")), row) for row in rows]


def _log_files(client: MlflowClient, run: Run, model: Path, report: Path, evaluation: Evaluation) -> None:
    """Pages, curves, the per-image table, pictures of images and confusion, unless the run holds exactly these."""
    files = [path for path in sorted(report.rglob("*")) if path.is_file() and path.name not in _OWN]
    digest = sha256_lines(f"{path.relative_to(report).as_posix()} {sha256_file(path)}" for path in files)
    run_id = run.info.run_id
    held = {file.path for file in client.list_artifacts(run_id)}
    if run.data.tags.get(_REPORT_TAG) == digest and TABLE_FILE in held:
        return
    for path in files:
        folder = path.relative_to(report).parent
        if folder.name in PICTURES and path.suffix == ".png":
            _log_picture(client, run_id, path)
        else:
            client.log_artifact(run_id, str(path), (Path("report") / folder).as_posix())
    _log_confusion(client, run_id, evaluation)
    client.log_artifact(run_id, str(model / TrainedModel.FILE), "model")
    client.log_artifact(run_id, str(model / HISTORY_FILE), "model")
    table = models.read_per_image(report, evaluation.classes)
    if TABLE_FILE in held:  # log_table would append
        client.log_text(run_id, table.to_json(orient="split", index=False), TABLE_FILE)
    else:
        client.log_table(run_id, table, TABLE_FILE)
    client.set_tag(run_id, _REPORT_TAG, digest)


def _log_picture(client: MlflowClient, run_id: str, path: Path) -> None:
    """One picture of an image; the same image has the same key in every run, so that MLflow shows them side by side."""
    from PIL import Image

    key = re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII)  # what MLflow takes
    with Image.open(path) as picture:
        client.log_image(run_id, picture.convert("RGB"), key=f"{path.parent.name}/{key}", step=0)


def _log_confusion(client: MlflowClient, run_id: str, evaluation: Evaluation) -> None:
    """The confusion on validation and test as pictures, under the same keys in every run."""
    from segops.evaluation.confusion_picture import confusion_picture

    for subset, scores in (("val", evaluation.val), ("test", evaluation.test)):
        shown = confusion_picture(scores.confusion, evaluation.classes, f"{evaluation.candidate}, {subset}")
        client.log_image(run_id, shown, key=f"confusion/{subset}", step=0)


def _datasets(model: TrainedModel) -> list[DatasetInput]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"url": model.source, "sha256": model.source_sha256, "licence": model.licence})
    profile = json.dumps({"manifest_sha256": model.manifest_sha256, "test_sha256": model.test_sha256})
    kinds: dict[Literal["training", "testing"], tuple[str, str]] = {
        "training": (model.dataset, model.assignment_sha256[:32]),
        "testing": _test_set(model),
    }
    return [
        DatasetInput(
            Dataset(name, digest, source_type="external", source=source, profile=profile),
            tags=[InputTag("mlflow.data.context", context)],
        )
        for context, (name, digest) in kinds.items()
    ]


def _test_set(model: TrainedModel) -> tuple[str, str]:
    """Name and digest (MLflow takes 36 characters) of the test set."""
    return f"{model.dataset} test", model.test_sha256[:32]


def _note(model: TrainedModel, evaluation: Evaluation) -> str:
    dice = evaluation.test.dice
    return (
        f"**{model.candidate}** on {model.dataset} ({model.licence}), protocol `{model.protocol}`\n\n"
        f"| | Dice |\n|---|---|\n| validation | {evaluation.val.dice.mean:.4f} |\n"
        f"| test | {dice.mean:.4f} ({evaluation.confidence:.0%} interval {dice.low:.4f} to {dice.high:.4f}) |\n\n"
        f"{model.shown_rule.capitalize()}, {model.parameters:,} parameters, weights of epoch {model.best_epoch}. "
        f"Pictures and pages: artifact `report/gallery.html`; every image's scores: `{TABLE_FILE}`."
    )
