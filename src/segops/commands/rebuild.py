"""Rebuilds an MLflow store from files: `segops register --missing`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.comparison import Comparison
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.params.compare import CompareParams
from segops.params.register import RegisterParams
from segops.params.tracking import TrackingParams
from segops.stages.register import register

if TYPE_CHECKING:
    from segops.tracking.store import MlflowClient


def register_missing(
    params: RegisterParams,
    tracking: TrackingParams,
    compare: CompareParams,
    candidates: list[str],
    *,
    models: Path,
    reports: Path,
    comparison: Path,
) -> list[str]:
    """Rebuild from files what the store lacks: runs, versions and the alias `challenger`.

    For outputs that came out of a cache beside an empty store. Candidates that were never registered are left alone.
    Versions are made in the order of their old numbers, so that an empty store gives the same numbers again.

    Returns:
        The candidates that were rebuilt.
    """
    from segops.stages.compare import compare as run_compare
    from segops.tracking import store

    known = [name for name in candidates if (reports / name / Registration.FILE).is_file()]
    registrations = {name: Registration.load(reports / name) for name in known}
    client = store.client(tracking)
    rebuilt = []
    for name in sorted(known, key=lambda name: registrations[name].version or 0):
        with store.answering():
            present = _is_there(client, tracking, models / name, registrations[name])
        if not present:
            register(params, tracking, model=models / name, report=reports / name, earlier=registrations[name])
            rebuilt.append(name)
    if (comparison / Comparison.FILE).is_file() and len(known) == len(candidates):
        with store.answering():
            stale = rebuilt or not _challenger_agrees(client, tracking, Comparison.load(comparison), registrations)
        if stale:
            run_compare(compare, tracking, candidates, reports=reports, models=models, comparison=comparison)
    return rebuilt


def _is_there(client: MlflowClient, tracking: TrackingParams, model: Path, registration: Registration) -> bool:
    """Return whether the store holds a candidate's run, and its version with its files where it is registered."""
    from segops.tracking.model import find_model, has_files
    from segops.tracking.registry import find_version
    from segops.tracking.runs import find_run

    trained = TrainedModel.load(model)
    run = find_run(client, experiment=tracking.experiment, candidate=trained.candidate, key=trained.key)
    if run is None or run.data.tags.get("weights_sha256") != trained.weights_sha256:
        return False
    if not registration.registered:
        return True
    logged = find_model(client, run, trained)
    version = find_version(client, tracking.model_name, trained)
    return logged is not None and has_files(client, logged) and version == registration.version


def _challenger_agrees(
    client: MlflowClient, tracking: TrackingParams, comparison: Comparison, registrations: dict[str, Registration]
) -> bool:
    """Return whether the alias `challenger` is where the comparison put it."""
    from segops.tracking.registry import CHALLENGER, alias

    best = registrations.get(comparison.challenger) if comparison.challenger else None
    return alias(client, tracking.model_name, CHALLENGER) == (best.version if best else None)
