"""compare: which candidate leads on validation, and is the lead real. The test set is shown and chooses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    """Rank the listed candidates and give the best registered one the alias `challenger`; other folders are ignored.

    Writes comparison.json, leaderboard.csv, index.html and run.json, and the page into each candidate's MLflow run.

    Args:
        work: names all that was read for this comparison; noted there as done.

    Raises:
        UserError: a candidate's files are missing, the candidates were judged on different test sets, protocols or
            classes, MLflow is away, or its store lacks the challenger's version.
    """
    entrants = [read_entrant(name, reports / name, models / name) for name in candidates]
    refuse_mixed(entrants)
    made = rank(entrants, params)
    page = ComparisonPage(made, entrants, params)
    beside = reports.resolve().parent == comparison.resolve().parent
    galleries = {name: f"../{reports.name}/{name}/gallery.html" for name in candidates if beside}
    with output_folder(comparison) as folder, run_record(folder, "compare"):
        made.save(folder)
        write_leaderboard(made, folder / LEADERBOARD_FILE)
        write_text(folder / PAGE_FILE, page.html(galleries))
        point_challenger(made, {one.name: one.registration for one in entrants}, tracking)
        log_page(made, page.html({}), entrants, tracking, work)
    return made


def rank(entrants: list[Entrant], params: CompareParams) -> Comparison:
    """The leaderboard by mean Dice on validation (ties by name), every pair's differences, the leader's subgroups."""
    from segops.comparison.paired import paired_differences, subgroup_differences
    from segops.comparison.verdict import decision

    order = sorted(entrants, key=lambda one: (-one.evaluation.val.dice.mean, one.name))
    standings = [_standing(place, one) for place, one in enumerate(order, start=1)]
    ranked, leader = [one.judged for one in order], order[0].evaluation
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
        challenger=next((one.candidate for one in standings if one.registered), None),
    )


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
    """Put the decision and the page into the MLflow run of every candidate that is compared; last, what is done."""
    from segops.tracking import store
    from segops.tracking.compared import note_work
    from segops.tracking.comparison import log_comparison

    client = store.client(tracking)
    with store.answering():
        keys = {one.name: one.trained.key for one in entrants}
        log_comparison(client, tracking.experiment, keys, page, comparison.decision)
        if work is not None:
            versions = {one.name: one.registration.version for one in entrants}
            challenger = versions[comparison.challenger] if comparison.challenger else None
            note_work(client, tracking, work, keys=keys, versions=versions, challenger=challenger)


def _standing(place: int, one: Entrant) -> Standing:
    return Standing(
        rank=place,
        candidate=one.name,
        val_dice=one.evaluation.val.dice,
        val_iou=one.evaluation.val.iou.mean,
        val_ece=one.evaluation.val.ece,
        test_dice=one.evaluation.test.dice,
        test_iou=one.evaluation.test.iou.mean,
        test_ece=one.evaluation.test.ece,
        val_class_dice=_class_dice(one.evaluation, one.evaluation.val),
        test_class_dice=_class_dice(one.evaluation, one.evaluation.test),
        val_false_positives=one.evaluation.val.false_positive_share,
        test_false_positives=one.evaluation.test.false_positive_share,
        parameters=one.trained.parameters,
        gflops=one.gflops,
        registered=one.registration.registered,
        version=one.registration.version,
        reason=one.registration.reason,
    )


def _class_dice(evaluation: Evaluation, scores: SubsetScores) -> dict[str, float | None]:
    return {name: mean_of(scores.by_class[name].dice) for name in evaluation.shown_classes}


def _columns(name: str, value: Any) -> dict[str, Any]:
    """A field of a standing as columns: an interval becomes four, classes one each."""
    if isinstance(value, Interval):
        ends = {f"{name}_{part}": getattr(value, part) for part in ("low", "high", "groups")}
        return {name: value.mean, **ends}
    if isinstance(value, dict):
        return {f"{name}_{slug}": value[of] for of, slug in zip(value, slugs(list(value)), strict=True)}
    return {name: value}
