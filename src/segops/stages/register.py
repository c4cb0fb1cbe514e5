"""Registers a candidate as a model version with its lineage, or records the floor that it missed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segops.comparison.entrants import load_pair
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.contracts.tables import MODEL_CARD_FILE
from segops.files import write_text
from segops.params.register import RegisterParams
from segops.params.tracking import TrackingParams

if TYPE_CHECKING:
    from segops.tracking.store import MlflowClient, Run


def register(
    params: RegisterParams,
    tracking: TrackingParams,
    *,
    model: Path,
    report: Path,
    earlier: Registration | None = None,
) -> Registration:
    """Complete the candidate's MLflow run and make a version of its weights, unless a floor on validation is missed.

    A repeated call finds the run and the version that are there. Writes `model_card.md` and `registration.json` into
    `report`.

    Args:
        earlier: what the candidate's first registration wrote, where a store is rebuilt: the commit is taken from it.

    Raises:
        UserError: model and report aren't of the same weights.
        TryAgainError: MLflow is away.
    """
    from segops.reports.run_notes import experiment_note, run_note
    from segops.reports.run_pictures import run_pictures
    from segops.tracking import candidate, pages, saved_view, step_run, store
    from segops.tracking.evidence import file_hashes
    from segops.tracking.model import log_model

    trained, evaluation = load_pair(model, report)
    reason = _unservable(trained) or missed_floor(params, evaluation)
    write_card(params, tracking, trained, evaluation, report)
    client = store.client(tracking)
    with store.answering(), store.alone(f"register {trained.key} {trained.test_sha256}"):
        run = candidate.open_run(client, tracking.experiment, trained, earlier)
        model_id = None if reason else log_model(client, run, model=model, report=report)
        pictures = run_pictures(model, report, evaluation)
        candidate.log_candidate(client, run, model=model, report=report, model_id=model_id, pictures=pictures)
        hashes = file_hashes(model, report)
        version = _version(client, run, tracking, trained, evaluation, model_id, hashes) if model_id else None
        note = run_note(run, trained, evaluation, version=_named(tracking, version), reason=reason)
        candidate.describe(client, run, note)
        saved_view.keep_view_of(client, run)
        about = experiment_note(pages.links_of(client, tracking, run), decision=None)
        pages.keep_note(client, run.info.experiment_id, about, renew=False)
        step_run.link(client, run.info.run_id, *candidate.NATIVE)
    registration = _registration(run, tracking, trained, version, reason)
    registration.save(report)
    return registration


def write_card(
    params: RegisterParams, tracking: TrackingParams, trained: TrainedModel, evaluation: Evaluation, report: Path
) -> None:
    """Write the candidate's model card into its report."""
    from segops.contracts.per_image import read_per_image
    from segops.params.candidate import CandidateParams
    from segops.reports.model_card import model_card
    from segops.tracking.evidence import refuse_contradiction
    from segops.tracking.shown_params import shown_params

    shown = shown_params(CandidateParams.model_validate(trained.params))
    table = read_per_image(report, evaluation.classes)
    refuse_contradiction(evaluation, table, str(report))
    card = model_card(trained, evaluation, table, params.card, shown=shown, name=tracking.model_name)
    write_text(report / MODEL_CARD_FILE, card)


def missed_floor(params: RegisterParams, evaluation: Evaluation) -> str | None:
    """Word the floors on validation that an evaluation misses, in a line; None when it reaches all."""
    missed = [
        f"validation {metric} {value:.4f} is below the floor {floor:g}"
        for metric, value, floor in (
            ("Dice", evaluation.val.dice.mean, params.floors.dice),
            ("IoU", evaluation.val.iou.mean, params.floors.iou),
        )
        if value < floor
    ]
    return "; ".join(missed) or None


def _unservable(trained: TrainedModel) -> str | None:
    """Say why a version of a candidate could not be run where only the registry is; None where it could."""
    from segops.params.candidate import CandidateParams

    if not CandidateParams.model_validate(trained.params).external:
        return None
    return "an external program is compared, not registered: a version of it would have nothing to run"


def _registration(
    run: Run, tracking: TrackingParams, trained: TrainedModel, version: int | None, reason: str | None
) -> Registration:
    """Say what became of the candidate; the commit is the run's."""
    dirty = run.data.tags.get("git_dirty")
    return Registration(
        candidate=trained.candidate,
        key=trained.key,
        weights_sha256=trained.weights_sha256,
        registered=version is not None,
        reason=reason,
        model_name=tracking.model_name,
        version=version,
        git_commit=run.data.tags.get("git_commit"),
        git_dirty=None if dirty is None else dirty == "true",
    )


def _version(
    client: MlflowClient,
    run: Run,
    tracking: TrackingParams,
    trained: TrainedModel,
    evaluation: Evaluation,
    model_id: str,
    hashes: dict[str, str],
) -> int:
    """Find or make the version of the candidate's weights, and tag it with the hashes of what was logged just now."""
    from segops.reports.run_notes import version_note
    from segops.tracking.model import remove_twins, tell_version
    from segops.tracking.registry import models_of_versions, open_version

    name, commit = tracking.model_name, ("git_commit", "git_dirty")
    tags = {tag: run.data.tags[tag] for tag in commit if tag in run.data.tags} | hashes
    version = open_version(client, name, trained, run_id=run.info.run_id, model_id=model_id, tags=tags)
    source = str(client.get_model_version(name, str(version)).source)
    remove_twins(client, run, trained, source, lambda: models_of_versions(client, name))
    if source != f"models:/{model_id}":  # another training ended in the same weights; its version keeps its evidence
        return version
    for tag, sha256 in hashes.items():
        client.set_model_version_tag(name, str(version), tag, sha256)
    description = version_note(run, trained, evaluation)
    client.update_model_version(name, str(version), description)
    tell_version(client, model_id, name, version, description)
    return version


def _named(tracking: TrackingParams, version: int | None) -> tuple[str, int] | None:
    """Return the name and number of a version; None where there is none."""
    return None if version is None else (tracking.model_name, version)
