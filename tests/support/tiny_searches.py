"""Searches of tiny networks on tiny images, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segops.contracts.trials import TrialRecord
from segops.contracts.tuned import Tuned, TunedCandidate
from segops.params.candidate import CandidateParams
from segops.params.project import Params
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.params.tune import TuneParams
from segops.stages.tune import tune
from segops.tuning import study as studies
from segops.tuning import workers
from segops.tuning.confirm import judge
from segops.tuning.storage import open_storage
from segops.tuning.study import Search

LEARNING_RATE = {"recipe.learning_rate": {"float": [1e-4, 0.1], "log": True}}


def tiny(**recipe: Any) -> CandidateParams:
    """A candidate of 60 parameters that trains for two epochs of three steps."""
    quick = {"epochs": 2, "batch_size": 4, "loss": {"name": "bce"}, "learning_rate": 0.01, "ema_decay": None}
    quick |= {"precise_bn_images": None, "precision": "fp32"} | recipe
    model = {"architecture": "unet", "base_filters": 2, "depth": 1}
    return CandidateParams.model_validate({"model": model, "input": {"size": 32}, "recipe": quick})


def tune_params(
    space: dict[str, Any] | None = None, *, search: dict[str, Any] | None = None, **tune: Any
) -> TuneParams:
    """A search for the candidate `tiny`: four trials, no confirmation, unless said otherwise."""
    one = {"space": space or LEARNING_RATE, "trials": 4} | (search or {})
    given = {"pruner": "none", "confirm_seeds": 0, "searches": {"tiny": one}} | tune
    return Params.model_validate(
        {"ingest": {"source": "unused"}, "candidates": {"tiny": tiny().model_dump()}, "tune": given}
    ).tune


def run(params: TuneParams, prepared: Path, out: Path, candidate: CandidateParams | None = None) -> Tuned:
    """The stage; `best.yaml` goes to `out/tuned`, the report to `out/report`."""
    return tune(
        params,
        {"tiny": candidate or tiny(), "other": tiny()},
        RuntimeParams(threads=1, device="cpu"),
        TrackingParams(),
        prepared=prepared,
        tuned=out / "tuned",
        report=out / "report",
    )


def search_of(params: TuneParams, prepared: Path, candidate: CandidateParams | None = None) -> Search:
    """The plan of the search for `tiny`."""
    return studies.plan("tiny", candidate or tiny(), params, RuntimeParams(threads=1, device="cpu"), prepared)


def result_of(params: TuneParams, prepared: Path, candidate: CandidateParams | None = None) -> TunedCandidate:
    """The search itself: without the stage's files, and without MLflow."""
    search = search_of(params, prepared, candidate)
    storage = workers.run(search, after_trial=lambda trials: None)
    return judge(storage, search, studies.records(storage, search))


def trials_of(params: TuneParams, prepared: Path, candidate: CandidateParams | None = None) -> list[TrialRecord]:
    """The trials that the storage holds of it."""
    return studies.records(open_storage(params), search_of(params, prepared, candidate))
