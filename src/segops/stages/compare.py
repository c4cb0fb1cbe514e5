"""Compares the candidates: which leads on validation, and is the lead real.

The test set is shown, it chooses nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.comparison.entrants import Entrant, read_entrant, refuse_mixed
from segops.contracts.comparison import Comparison
from segops.contracts.evaluation import Evaluation
from segops.contracts.registration import Registration
from segops.contracts.scores import Interval, Standing, SubsetScores, mean_of
from segops.contracts.tables import slugs, write_csv
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.compare import CompareParams
from segops.params.tracking import TrackingParams
from segops.reports.comparison_page import ComparisonPage

if TYPE_CHECKING:
    from segops.tracking.champion_run import ChampionRun
    from segops.tracking.store import MlflowClient

LEADERBOARD_FILE = "leaderboard.csv"
PAGE_FILE = "index.html"


def compare(
    params: CompareParams,
    tracking: TrackingParams,
    candidates: list[str],
    *,
    reports: Path,
    models: Path,
    comparison: Path,
    work: str | None = None,
) -> Comparison:
    """Rank the listed candidates and give the best that is registered the alias `challenger`.

    Other folders are ignored. Writes comparison.json, leaderboard.csv, index.html and run.json, and the page into each
    candidate's MLflow run.

    Args:
        work: names all that was read for this comparison; noted in MLflow as done.

    Raises:
        UserError: a candidate's files are missing, the candidates were judged on different test sets, protocols or
            classes, MLflow is away, or its store lacks the challenger's version.
    """
    entrants = [read_entrant(name, reports / name, models / name) for name in candidates]
    refuse_mixed(entrants)
    result = rank(entrants, params)
    page = ComparisonPage(result, entrants, params, _champion(tracking))
    beside = reports.resolve().parent == comparison.resolve().parent
    galleries = {name: f"../{reports.name}/{name}/gallery.html" for name in candidates if beside}
    with output_folder(comparison) as folder, run_record(folder, "compare"):
        result.save(folder)
        write_leaderboard(result, folder / LEADERBOARD_FILE)
        write_text(folder / PAGE_FILE, page.html(galleries))
        point_challenger(result, {entrant.name: entrant.registration for entrant in entrants}, tracking)
        log_page(result, page.html({}), entrants, tracking, work)
    return result


def rank(entrants: list[Entrant], params: CompareParams) -> Comparison:
    """Rank entrants by mean Dice on validation (ties by name), with every pair's differences.

    The leader's subgroups are compared too.
    """
    from segops.comparison.paired import paired_differences, subgroup_differences
    from segops.comparison.verdict import decision

    order = sorted(entrants, key=lambda entrant: (-entrant.evaluation.val.dice.mean, entrant.name))
    standings = [_standing(place, entrant) for place, entrant in enumerate(order, start=1)]
    ranked, leader = [entrant.judged for entrant in order], order[0].evaluation
    differences = paired_differences(ranked, params)
    subgroups = subgroup_differences(ranked, leader.classes, params)
    return Comparison(
        test_sha256=leader.test_sha256,
        protocol=leader.protocol,
        confidence=params.confidence,
        decision=decision(standings, differences, subgroups, params.confidence),
        standings=standings,
        differences=differences,
        subgroup_margin=params.subgroup_margin,
        subgroups=subgroups,
        challenger=next((standing.candidate for standing in standings if standing.registered), None),
    )


def _champion(tracking: TrackingParams) -> ChampionRun | None:
    """Read what MLflow knows of the champion at this moment."""
    from segops.tracking import store
    from segops.tracking.champion_run import champion_run

    client = store.client(tracking)
    with store.answering():
        return champion_run(client, tracking.model_name)


def write_leaderboard(comparison: Comparison, path: Path) -> None:
    """Write the standings as CSV, one row per candidate."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for standing in comparison.standings:
        rows.append({})
        for name, value in standing:
            rows[-1] |= _columns(name, value)
    write_csv(pd.DataFrame(rows, dtype=object), path)


def point_challenger(comparison: Comparison, registrations: dict[str, Registration], tracking: TrackingParams) -> None:
    """Give the challenger's version the alias, or take the alias away where no candidate is registered."""
    from segops.tracking import registry, store

    client = store.client(tracking)
    with store.answering():
        best = registrations[comparison.challenger] if comparison.challenger else None
        if best is not None and not registry.holds(client, best):
            raise UserError(
                f"MLflow at {store.shown(store.tracking_uri())} lacks '{best.model_name}' version {best.version} of "
                f"'{best.candidate}' or has other weights there; run `segops register --missing`"
            )
        registry.set_alias(client, tracking.model_name, registry.CHALLENGER, best.version if best else None)


def log_page(
    comparison: Comparison, page: str, entrants: list[Entrant], tracking: TrackingParams, work: str | None
) -> None:
    """Put the decision and the page into each compared candidate's MLflow run; last, note what is done."""
    from segops.tracking import store
    from segops.tracking.compared import note_work
    from segops.tracking.comparison import log_comparison

    client = store.client(tracking)
    with store.answering():
        keys = {entrant.name: entrant.trained.key for entrant in entrants}
        log_comparison(client, tracking.experiment, keys, page, comparison.decision)
        _keep_pages(client, tracking, entrants[0], comparison.decision)
        if work is not None:
            versions = {entrant.name: entrant.registration.version for entrant in entrants}
            challenger = versions[comparison.challenger] if comparison.challenger else None
            note_work(client, tracking, work, keys=keys, versions=versions, challenger=challenger)


def _keep_pages(client: MlflowClient, tracking: TrackingParams, entrant: Entrant, decision: str) -> None:
    """Keep MLflow's view of the candidates, its note and the aliases in the table of runs up to date."""
    from segops.reports.run_notes import experiment_note, model_note
    from segops.tracking import pages, registry, runs, saved_view

    run = runs.find_run(client, experiment=tracking.experiment, candidate=entrant.name, key=entrant.trained.key)
    if run is not None:  # else the missing run was reported
        saved_view.keep_view_of(client, run)
        links = pages.links_of(client, tracking, run)
        pages.keep_note(client, run.info.experiment_id, experiment_note(links, decision), renew=True)
        pages.keep_model_note(client, tracking.model_name, model_note(links, registry.DESCRIPTION))
    pages.show_aliases(client, tracking)


def _standing(place: int, entrant: Entrant) -> Standing:
    """Build an entrant's line on the leaderboard."""
    return Standing(
        rank=place,
        candidate=entrant.name,
        val_dice=entrant.evaluation.val.dice,
        val_iou=entrant.evaluation.val.iou.mean,
        val_ece=entrant.evaluation.val.ece,
        test_dice=entrant.evaluation.test.dice,
        test_iou=entrant.evaluation.test.iou.mean,
        test_ece=entrant.evaluation.test.ece,
        val_class_dice=_class_dice(entrant.evaluation, entrant.evaluation.val),
        test_class_dice=_class_dice(entrant.evaluation, entrant.evaluation.test),
        val_false_positives=entrant.evaluation.val.false_positive_share,
        test_false_positives=entrant.evaluation.test.false_positive_share,
        parameters=entrant.trained.parameters,
        gflops=entrant.gflops,
        registered=entrant.registration.registered,
        version=entrant.registration.version,
        reason=entrant.registration.reason,
    )


def _class_dice(evaluation: Evaluation, scores: SubsetScores) -> dict[str, float | None]:
    """Return the mean Dice by foreground class; none for two classes."""
    return {name: mean_of(scores.by_class[name].dice) for name in evaluation.shown_classes}


def _columns(name: str, value: Any) -> dict[str, Any]:
    """Return a field of a standing as columns: an interval becomes four, a class each its own."""
    if isinstance(value, Interval):
        ends = {f"{name}_{part}": getattr(value, part) for part in ("low", "high", "groups")}
        return {name: value.mean, **ends}
    if isinstance(value, dict):
        return {f"{name}_{slug}": value[of] for of, slug in zip(value, slugs(list(value)), strict=True)}
    return {name: value}
