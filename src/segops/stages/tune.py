"""Searches for the hyperparameters that validation prefers, by candidate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.tuned import Tuned, TunedCandidate
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.params.tune import TuneParams
from segops.progress import note

if TYPE_CHECKING:
    from segops.reports.tuning_page import Searched


def tune(
    params: TuneParams,
    candidates: dict[str, CandidateParams],
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    prepared: Path,
    tuned: Path,
    report: Path,
) -> Tuned:
    """Search for the hyperparameters of the candidates under `params.searches`.

    Reads the train and val subsets of `prepared`; never test. Writes `best.yaml` to `tuned`; `index.html`,
    `trials.csv`, pictures and `run.json` to `report`. A killed search resumes, a finished search isn't run again.
    Trials are reported to MLflow.

    Raises: TryAgainError where the storage is away; UserError where the space isn't the study's, or no trial of a
        candidate succeeded.
    """
    searched = [_search(name, candidates[name], params, runtime, tracking, prepared) for name in params.searches]
    results = {done.search.candidate: done.result for done in searched}
    best = Tuned(candidates=dict.fromkeys(candidates) | results)
    with output_folder(report) as output, run_record(output, "tune") as record:
        untouched = [name for name in candidates if name not in params.searches]
        record["trial_seconds"] = {
            done.search.study: {trial.number: round(trial.seconds, 1) for trial in done.trials} for done in searched
        }
        _write_report(searched, untouched, output)
        best.save(tuned)
    return best


def start(
    params: TuneParams, candidates: dict[str, CandidateParams], runtime: RuntimeParams, *, prepared: Path
) -> list[str]:
    """Make the studies, before workers on several machines start; return their names."""
    from segops.tuning import study as studies
    from segops.tuning.storage import answering, open_storage

    storage = open_storage(params)
    searches = [studies.plan(name, candidates[name], params, runtime, prepared) for name in params.searches]
    for search in searches:
        answering(params, lambda search=search: studies.create(storage, search))  # type: ignore[misc]
    return [search.study for search in searches]


def work(params: TuneParams, candidates: dict[str, CandidateParams], runtime: RuntimeParams, *, prepared: Path) -> None:
    """Work on the studies that `start` made, on a machine of its own, until their slots are used up."""
    from segops.training.process import prepare_process
    from segops.tuning import search as worker
    from segops.tuning import study as studies

    prepare_process(runtime.threads)
    for name in params.searches:
        search = studies.plan(name, candidates[name], params, runtime, prepared)
        try:
            worker.work(search)
        except studies.NoStudyError:
            raise UserError(f"there is no study {search.study} in the storage; make it first (`tune_start`)") from None


def remove(
    name: str, params: TuneParams, candidates: dict[str, CandidateParams], runtime: RuntimeParams, *, prepared: Path
) -> str:
    """Remove a candidate's study with its trials; return its name. Raises UserError where there is none."""
    from segops.tuning import study as studies
    from segops.tuning.storage import answering, open_storage

    if name not in params.searches:
        raise UserError(f"params.yaml: tune.searches has no '{name}'; it has {', '.join(params.searches) or 'none'}")
    storage = open_storage(params)
    search = studies.plan(name, candidates[name], params, runtime, prepared)
    if not answering(params, lambda: studies.remove(storage, search)):
        raise UserError(f"there is no study {search.study}, nothing to remove")
    return search.study


def _search(
    name: str,
    candidate: CandidateParams,
    params: TuneParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    prepared: Path,
) -> Searched:
    """Run a candidate's search to its end, and report it to MLflow."""
    from segops.reports.tuning_page import Searched
    from segops.tracking.search_run import SearchRun
    from segops.training.process import prepare_process
    from segops.tuning import study as studies
    from segops.tuning import workers
    from segops.tuning.confirm import judge
    from segops.tuning.importances import importances

    prepare_process(runtime.threads)
    search = studies.plan(name, candidate, params, runtime, prepared)
    about = params.model_dump(mode="json", include={"objectives", "sampler", "pruner", "seed", "workers"})
    run = SearchRun(experiment=tracking.experiment, candidate=name, study=search.study, params=about)
    storage = workers.run(search, after_trial=run.show)
    trials = studies.records(storage, search)
    result = judge(storage, search, trials)
    run.finish(trials, _figures(result))
    note(f"{name}: {summary(result)}")
    return Searched(search, importances(studies.load(storage, search)), trials, result)


def summary(result: TunedCandidate | None) -> str:
    """Word a candidate's result in a line."""
    if result is None:
        return "not searched"
    if not result.values:
        rejected = f"; trial {result.rejected}'s lead did not hold over seeds" if result.rejected is not None else ""
        return f"its own params are the best, validation Dice {result.score:.4f}{rejected}"
    gain = f", {result.gain.mean:+.4f} over {len(result.gain.seeds)} seeds" if result.gain is not None else ""
    return f"trial {result.trial}, validation Dice {result.score:.4f}{gain}"


def _figures(result: TunedCandidate) -> dict[str, float | None]:
    """Return the figures of a search that MLflow shows."""
    gain = result.gain
    return {
        "search/dice": result.score,
        "search/default_dice": result.default_score,
        "search/gain": gain.mean if gain is not None else None,
        "search/gain_sd": gain.deviation if gain is not None else None,
    }


def _write_report(searched: list[Searched], untouched: list[str], output: Path) -> None:
    """Write the page of the searches, or a page that says that nothing was searched."""
    if not searched:
        from segops.reports.pages import render

        write_text(output / "index.html", render("no_search.html.j2", names=untouched))
        return
    from segops.reports.tuning_page import write_report

    write_report(searched, untouched, output)
