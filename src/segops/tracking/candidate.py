"""What a finished candidate's run holds: scores, epochs, dataset, tables, pictures and pages, all from its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from segops.comparison.entrants import read_times
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import read_per_image
from segops.contracts.registration import Registration
from segops.contracts.tables import HISTORY_FILE, OUT_OF_FOLD, PANELS
from segops.errors import UserError
from segops.files import readable, sha256_file, sha256_lines
from segops.params.candidate import CandidateParams
from segops.pictures.thumbnails import THUMBNAILS_FILE
from segops.tracking import runs
from segops.tracking.pictures import RunPicture, gradcam_pictures, log_pictures, stored_pictures, with_last
from segops.tracking.run_scores import subgroup_dice, subset_scores
from segops.tracking.shown_params import shown_params
from segops.tracking.spool import EpochMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

    from segops.contracts.scores import SubsetScores

TABLE_FILE = "per_image.json"
PARAMS_FILE = "params.json"  # all params; the run's own are few
DICE_TAGS = ("validation Dice", "test Dice")  # with intervals, as columns that can be read; metrics can be sorted
_REPORT_TAG = "segops.report"
NATIVE = ("val/native_", "test/")  # what the scores at native size begin with
_JUDGED = {"val/native_": "validation", "test/": "testing", "published/": "testing"}  # on which data
_OWN = {"run.json", Registration.FILE, THUMBNAILS_FILE}  # what isn't a report to look at
_Data = tuple[str, str]  # name and digest of a data set; MLflow takes digests of 36 characters


def open_run(client: MlflowClient, experiment: str, model: TrainedModel, earlier: Registration | None = None) -> Run:
    """Find or make the candidate's run and tag it with its data, its weights and, if rebuilt, its earlier commit.

    Args:
        earlier: the registration that the run is rebuilt after; its commit is the run's then, not that of today.
    """
    rebuilt = {"segops.rebuilt": "true", **runs.commit_tags(earlier.git_commit, earlier.git_dirty)} if earlier else {}
    return runs.open_run(
        client,
        experiment=experiment,
        candidate=model.candidate,
        key=model.key,
        params=shown_params(CandidateParams.model_validate(model.params)),
        tags={**runs.data_tags(model), "weights_sha256": model.weights_sha256, **rebuilt},
    )


def log_candidate(
    client: MlflowClient, run: Run, *, model: Path, report: Path, model_id: str | None, pictures: Iterable[RunPicture]
) -> None:
    """Log a candidate's files to its run, skipping every row, table and picture that the run already holds.

    Args:
        pictures: those that all runs have.
    """
    trained, evaluation = TrainedModel.load(model), Evaluation.load(report)
    runs.log_epochs(client, run.info.run_id, read_history(model, run.info.start_time), runs.stored_steps(client, run))
    client.log_inputs(run.info.run_id, datasets=_inputs(trained))
    data = _data(trained)
    milliseconds = read_times(report, model).milliseconds
    for prefix, values in _scores(trained, evaluation, report, milliseconds).items():
        dataset = data[_JUDGED[prefix]] if prefix in _JUDGED else None
        named = {f"{prefix}{name}": value for name, value in values.items()}
        runs.log_scores(client, run, named, model_id=model_id, dataset=dataset)
    for tag, dice in zip(DICE_TAGS, (evaluation.val.dice, evaluation.test.dice), strict=True):
        client.set_tag(run.info.run_id, tag, dice.words(4))
    _log_files(client, run, model, report, evaluation)
    shown = chain(pictures, with_last(gradcam_pictures(model / PANELS)))
    log_pictures(client, run.info.run_id, shown, stored_pictures(client, run.info.run_id))
    if run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id, "FINISHED")


def describe(client: MlflowClient, run: Run, note: str) -> None:
    """Write the note that MLflow's page of the run shows first."""
    client.set_tag(run.info.run_id, "mlflow.note.content", note)


def read_history(model: Path, started_ms: int) -> list[EpochMetrics]:
    """Read history.csv as epochs. It holds no times, so each epoch counts as one second from the run's start."""
    path = model / HISTORY_FILE
    if not path.exists():
        raise UserError(f"{path}: no such file; run train again (`dvc repro`)")
    with readable(path, "CSV table", "run train again"), path.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        return [EpochMetrics(int(row["epoch"]), started_ms + 1000 * int(row.pop("epoch")), row) for row in rows]


def _scores(
    model: TrainedModel, evaluation: Evaluation, report: Path, milliseconds: float | None
) -> dict[str, dict[str, float | None]]:
    """Collect all figures that have no step, by the prefix of their metric names."""
    table, folds = read_per_image(report, evaluation.classes), evaluation.out_of_fold

    def of(scores: SubsetScores, subset: str) -> dict[str, float | None]:
        """Name one subset's scores and add the Dice of its subgroups."""
        return subset_scores(scores, evaluation.shown_classes) | subgroup_dice(table[table["subset"] == subset])

    return {
        "out_of_fold/": of(folds, OUT_OF_FOLD) if folds else {},
        "val/native_": of(evaluation.val, "val"),
        "test/": of(evaluation.test, "test"),
        "published/": evaluation.published.model_dump() if evaluation.published else {},
        "model/": {"parameters": model.parameters, "threshold": model.threshold, "best_epoch": model.best_epoch},
        "cost/": {"ms_an_image": milliseconds},
    }


def _log_files(client: MlflowClient, run: Run, model: Path, report: Path, evaluation: Evaluation) -> None:
    """Log pages, tables and pictures as files, unless the run holds exactly these."""
    files = [path for path in sorted(report.rglob("*")) if path.is_file() and path.name not in _OWN]
    digest = sha256_lines(f"{path.relative_to(report).as_posix()} {sha256_file(path)}" for path in files)
    run_id = run.info.run_id
    held = {file.path for file in client.list_artifacts(run_id)}
    if run.data.tags.get(_REPORT_TAG) == digest and TABLE_FILE in held:
        return
    for path in files:
        client.log_artifact(run_id, str(path), (Path("report") / path.relative_to(report).parent).as_posix())
    client.log_dict(run_id, TrainedModel.load(model).params, PARAMS_FILE)
    client.log_artifact(run_id, str(model / TrainedModel.FILE), "model")
    client.log_artifact(run_id, str(model / HISTORY_FILE), "model")
    table = read_per_image(report, evaluation.classes)
    if TABLE_FILE in held:  # log_table would append
        client.log_text(run_id, table.to_json(orient="split", index=False), TABLE_FILE)
    else:
        client.log_table(run_id, table, TABLE_FILE)
    client.set_tag(run_id, _REPORT_TAG, digest)


def _inputs(model: TrainedModel) -> list[DatasetInput]:
    """List the data sets that the run read as MLflow's dataset inputs, each with its source and hashes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"url": model.source, "sha256": model.source_sha256, "licence": model.licence})
    profile = json.dumps(
        {
            "manifest_sha256": model.manifest_sha256,
            "split_sha256": model.assignment_sha256,
            "test_sha256": model.test_sha256,
        }
    )
    return [
        DatasetInput(
            Dataset(name, digest, source_type="external", source=source, profile=profile),
            tags=[InputTag("mlflow.data.context", context)],
        )
        for context, (name, digest) in _data(model).items()
    ]


def _data(model: TrainedModel) -> dict[str, _Data]:
    """Return name and digest of each data set by its MLflow context: training, validation or testing.

    The test set has a hash of its own; the others have that of the split.
    """
    split = model.assignment_sha256[:32]
    return {
        "training": (model.dataset, split),
        "validation": (f"{model.dataset} validation", split),
        "testing": (f"{model.dataset} test", model.test_sha256[:32]),
    }
