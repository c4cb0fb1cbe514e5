"""Holds what Kubeflow's adapters share: from typed artifacts to stage functions and back. Imports no kfp."""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel

from segops.contracts.base import Contract
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.contracts.tuned import Tuned
from segops.errors import OneLineError, UserError
from segops.errors import one_line_errors as one_line_errors  # how a step ends is how a command ends
from segops.params.candidate import CandidateParams
from segops.params.compact import as_text, from_text
from segops.progress import say

if TYPE_CHECKING:
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams
    from segops.params.tune import TuneParams

SectionType = TypeVar("SectionType", bound=BaseModel)
_SUBSETS = {"val": "validation", "test": "test", "out_of_fold": "out of fold"}
_HASH = re.compile(r"^([0-9a-f]{12})[0-9a-f]{28,}$")  # SHA-1 or SHA-256
_ROC_POINTS = 100  # that Kubeflow's page draws


class Artifact(Protocol):
    """kfp's artifact."""

    path: str
    metadata: dict[str, Any]


def section(model: type[SectionType], text: str) -> SectionType:
    """Read a section of params.yaml from its text; a mistake in it ends the step with a line."""
    with one_line_errors():
        return from_text(model, text)


def facts(contract: Contract, *names: str) -> dict[str, Any]:
    """Return fields of a contract as metadata of an artifact, which holds no null.

    Hashes by their first digits: Kubeflow keeps an artifact's metadata six times for each step that reads it.
    """
    values = contract.model_dump(mode="json", include=set(names))
    short = {name: _HASH.sub(r"\1", value) if isinstance(value, str) else value for name, value in values.items()}
    return {name: short[name] for name in names if short[name] is not None}


def show_evaluation(
    evaluation: Evaluation, *, report: Artifact, scores: Any, confusion: Any, gallery: Artifact
) -> None:
    """Show an evaluation in Kubeflow's UI: scalars, the confusion of test pixels, the ROC curve, the gallery."""
    from segops.stages.evaluate import GALLERY_FILE, headline

    report.metadata.update(facts(evaluation, "candidate", "key", "weights_sha256", "test_sha256"))
    for subset, figures in headline(evaluation).items():
        for name, value in figures.items():
            if value is not None:
                scores.log_metric(f"{subset}/{name}", value)
    confusion.log_confusion_matrix(evaluation.classes, evaluation.test.confusion)
    folder = Path(report.path)
    with (folder / "curves" / "roc.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = rows[:: math.ceil(len(rows) / _ROC_POINTS)]
    columns = ("false_positive_rate", "true_positive_rate", "threshold")
    confusion.log_roc_curve(*([float(row[column]) for row in points] for column in columns))
    shutil.copyfile(folder / GALLERY_FILE, gallery.path)


def registration_note(registration: Registration, evaluation: Evaluation) -> str:
    """Word a registration in markdown: the version, linked where a server shows it, or the floor that was missed."""
    from segops.stages.evaluate import headline
    from segops.tracking.store import is_remote, shown, tracking_uri

    sentence = f"**{registration.candidate}** got no version: {registration.reason}."
    if registration.version is not None:
        sentence, uri = f"version {registration.version} of {registration.model_name}", tracking_uri()
        if is_remote(uri):
            page = f"{shown(uri).rstrip('/')}/#/models/{registration.model_name}/versions/{registration.version}"
            sentence = f"[{sentence}]({page})"
        sentence = f"**{registration.candidate}** is {sentence}."
    figures = headline(evaluation)
    header = [_SUBSETS[subset] for subset in figures]
    cells = {name: [_four_digits(of_subset[name]) for of_subset in figures.values()] for name in figures["val"]}
    rows = [["", *header], ["---"] * (len(header) + 1), *([name, *values] for name, values in cells.items())]
    return "\n".join([sentence, "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def _four_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """Open a temporary folder with links to a read-only folder's entries, to write beside them."""
    with TemporaryDirectory() as name:
        _link(folder, Path(name))
        yield Path(name)


@contextmanager
def by_candidate(
    models: Sequence[Artifact], reports: Sequence[Artifact], registrations: Sequence[Artifact]
) -> Iterator[tuple[list[str], Path, Path]]:
    """Collect folders under their candidates' names, as `compare` reads them.

    Yields: the names, sorted; the folder of models; that of reports, each registration beside its report.
    """
    with TemporaryDirectory() as name:
        trained, judged = Path(name) / "models", Path(name) / "reports"
        names = (
            _gather(models, TrainedModel, trained),
            _gather(reports, Evaluation, judged),
            _gather(registrations, Registration, judged),
        )
        if not names[0] == names[1] == names[2]:
            raise UserError(f"compare: models, reports and registrations are of different candidates: {names}")
        yield names[0], trained, judged


def _gather(
    artifacts: Sequence[Artifact], contract: type[TrainedModel | Evaluation | Registration], root: Path
) -> list[str]:
    """Link each artifact's entries into a folder of its candidate's name; return the names, sorted."""
    names = []
    for artifact in artifacts:
        names.append(contract.load(Path(artifact.path)).candidate)
        (root / names[-1]).mkdir(parents=True, exist_ok=True)
        _link(Path(artifact.path), root / names[-1])
    return sorted(names)


def _link(source: Path, target: Path) -> None:
    """Link a folder's entries into another folder."""
    for entry in source.iterdir():
        (target / entry.name).symlink_to(entry)


def of_search(
    params: str, candidates: list[dict[str, str]], runtime: str, tracking: str
) -> tuple[TuneParams, dict[str, CandidateParams], RuntimeParams, TrackingParams]:
    """Read what a search needs of params.yaml from the pipeline's arguments; check each candidate's space."""
    from segops.params.runtime import RuntimeParams
    from segops.params.search_space import check_search
    from segops.params.tracking import TrackingParams
    from segops.params.tune import TuneParams

    named = {item["candidate"]: section(CandidateParams, item["recipe"]) for item in candidates}
    tune_params = section(TuneParams, params)
    for name, search in tune_params.searches.items():
        if name not in named:
            raise UserError(f"tune.searches: there is no candidate '{name}'; there are {', '.join(named)}")
        check_search(name, named[name], search, tune_params)
    return tune_params, named, section(RuntimeParams, runtime), section(TrackingParams, tracking)


def show_search(result: Tuned, *, tuned: Artifact, report: Artifact, page: Artifact) -> None:
    """Show a search in Kubeflow's UI: the taken trials as metadata, and its page."""
    searched = {name: part for name, part in result.candidates.items() if part is not None}
    tuned.metadata.update({f"{name}_trial": part.trial for name, part in searched.items()})
    tuned.metadata.update({f"{name}_val_dice": part.score for name, part in searched.items()})
    shutil.copyfile(Path(report.path) / "index.html", page.path)


def loop_items(candidates: dict[str, CandidateParams]) -> list[dict[str, str]]:
    """Return the loop's items: each step receives its own candidate only.

    As text: Kubeflow's own structs turn numbers into floats, and lose null and the order of keys.
    """
    return [{"candidate": name, "recipe": as_text(params)} for name, params in candidates.items()]


def close_run(tracking: TrackingParams, state: str, message: str | None) -> None:
    """Say how a Kubeflow run ended. Where it failed, end its unfinished MLflow runs and say how to resume.

    Args:
        state: SUCCEEDED, FAILED or CANCELLED, as Kubeflow gives it to an exit handler.
        message: Kubeflow's own, which may be empty.
    """
    from segops.tracking.leftovers import end_leftovers

    run_id = os.environ.get("SEGOPS_KFP_RUN_ID")
    if state != "SUCCEEDED" and run_id:
        try:
            ended = end_leftovers(tracking, run_id, cancelled=state == "CANCELLED")
            say(f"ended in MLflow what was left running: {', '.join(ended) or 'nothing'}")
        except OneLineError as error:  # the run has failed already, and its last line must still be said
            say(f"{error}; unfinished MLflow runs of this run stay as they are")
    reason = f": {message}" if message else ""
    again = "" if state == "SUCCEEDED" else "; submit the same again: it resumes from the cache and the checkpoints"
    say(f"segops: the run ended as {state}{reason}{again}")
