"""compare: which candidate leads on validation, and is the lead real. The test set is shown and chooses nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.errors import UserError
from segops.files import atomic_path, output_folder, run_record, write_text
from segops.model_contracts import Comparison, Evaluation, Registration
from segops.params.project import CompareParams, TrackingParams
from segops.scores import Interval, PairedDifference, Standing, SubsetScores
from segops.tables import slugs

if TYPE_CHECKING:
    import pandas as pd

LEADERBOARD_FILE = "leaderboard.csv"
PAGE_FILE = "index.html"
_LINE_WIDTH = 120  # of a file or a pipe, characters


@dataclass(frozen=True)
class Entrant:
    """A candidate's files, read."""

    name: str
    evaluation: Evaluation
    registration: Registration
    parameters: int
    per_image: pd.DataFrame


def compare(
    params: CompareParams,
    tracking: TrackingParams,
    candidates: list[str],
    *,
    reports: Path,
    models: Path,
    comparison: Path,
) -> Comparison:
    """Rank the listed candidates and give the best registered one the alias `challenger`; other folders are ignored.

    Writes comparison.json, leaderboard.csv, index.html and run.json.

    Raises:
        UserError: a candidate's files are missing, the candidates were judged on different test sets, protocols or
            classes, MLflow is away, or its store lacks the challenger's version.
    """
    from segops.stages.comparison_page import comparison_page

    entrants = [read_entrant(name, reports / name, models / name) for name in candidates]
    refuse_mixed(entrants)
    made = rank(entrants, params)
    beside = reports.resolve().parent == comparison.resolve().parent
    galleries = {name: f"../{reports.name}/{name}/gallery.html" for name in candidates if beside}
    with output_folder(comparison) as folder, run_record(folder, "compare"):
        made.save(folder)
        write_leaderboard(made, folder / LEADERBOARD_FILE)
        write_text(folder / PAGE_FILE, comparison_page(made, entrants, galleries))
        point_challenger(made, {one.name: one.registration for one in entrants}, tracking)
    return made


def read_entrant(name: str, report: Path, model: Path) -> Entrant:
    """A candidate's evaluation, registration and per-image table, which must be of the same weights."""
    from segops.stages.register import load_pair
    from segops.tracking.model import read_per_image

    trained, evaluation = load_pair(model, report)
    registration = Registration.load(report)
    if registration.weights_sha256 != evaluation.weights_sha256:
        raise UserError(
            f"{report / Registration.FILE} is of other weights than {report / Evaluation.FILE}; "
            f"run register for '{name}' again (`dvc repro`)"
        )
    return Entrant(name, evaluation, registration, trained.parameters, read_per_image(report, evaluation.classes))


def refuse_mixed(entrants: list[Entrant]) -> None:
    """Raise UserError, naming the candidates, unless all were judged on one test set, protocol and set of classes."""
    for field in ("protocol", "test_sha256", "classes"):
        sides: dict[str, list[str]] = {}
        for one in entrants:
            value = getattr(one.evaluation, field)
            sides.setdefault(value[:12] if isinstance(value, str) else ", ".join(value), []).append(one.name)
        if len(sides) > 1:
            shown = "; ".join(f"{value}: {', '.join(names)}" for value, names in sides.items())
            raise UserError(f"candidates with different {field} can't be compared ({shown}); run `dvc repro` for all")


def rank(entrants: list[Entrant], params: CompareParams) -> Comparison:
    """The leaderboard by mean Dice on validation (ties by name), and the leader's paired differences."""
    order = sorted(entrants, key=lambda one: (-one.evaluation.val.dice.mean, one.name))
    standings = [_standing(place, one) for place, one in enumerate(order, start=1)]
    differences = [difference(order[0], other, subset, params) for other in order[1:] for subset in ("val", "test")]
    leader = order[0].evaluation
    return Comparison(
        test_sha256=leader.test_sha256,
        protocol=leader.protocol,
        confidence=params.confidence,
        standings=standings,
        differences=differences,
        challenger=next((one.candidate for one in standings if one.registered), None),
    )


def difference(leader: Entrant, other: Entrant, subset: Any, params: CompareParams) -> PairedDifference:
    """The leader's Dice minus another's on the same images, with a bootstrap over groups."""
    from segops.stages.gate import paired_interval, paired_rows

    pairs = paired_rows(leader.per_image, other.per_image, subset, (leader.name, other.name))
    found = paired_interval(pairs, resamples=params.bootstrap, confidence=params.confidence, seed=params.seed)
    return PairedDifference(
        leader=leader.name, other=other.name, subset=subset, difference=found, real=found.low > 0 or found.high < 0
    )


def write_leaderboard(comparison: Comparison, path: Path) -> None:
    """The standings as CSV."""
    rows: list[dict[str, Any]] = []
    for standing in comparison.standings:
        rows.append({})
        for name, value in standing:
            rows[-1] |= _columns(name, value)
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def point_challenger(comparison: Comparison, registrations: dict[str, Registration], tracking: TrackingParams) -> None:
    """Give the challenger's version the alias, or take the alias away where no candidate is registered."""
    from segops.tracking import registry, store

    client = store.client()
    with store.answering():
        best = registrations[comparison.challenger] if comparison.challenger else None
        if best is not None and not registry.holds(client, best):
            raise UserError(
                f"MLflow at {store.shown(store.tracking_uri())} lacks '{best.model_name}' version {best.version} of "
                f"'{best.candidate}' or has other weights there; run `segops register --missing`"
            )
        registry.set_alias(client, tracking.model_name, registry.CHALLENGER, best.version if best else None)


def print_leaderboard(comparison: Comparison) -> None:
    """Print the standings, and whether the lead is real, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_LINE_WIDTH)
    level = f"{comparison.confidence:.0%}"
    columns = ("rank", "candidate", f"validation Dice ({level})", f"test Dice ({level})", "parameters", "version")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for one in comparison.standings:
        version = str(one.version) if one.registered else "not registered"
        name = f"{one.candidate} *" if one.candidate == comparison.challenger else one.candidate
        table.add_row(str(one.rank), name, _shown(one.val_dice), _shown(one.test_dice), f"{one.parameters:,}", version)
    console.print(table)
    console.print(
        "* challenger: the best registered candidate on validation" if comparison.challenger else "no challenger"
    )
    for sentence in [*by_class(comparison), *verdicts(comparison)]:
        console.print(sentence, soft_wrap=True)


def by_class(comparison: Comparison) -> list[str]:
    """One line for each candidate with its Dice on validation by class; none for two classes."""
    return [
        f"{one.candidate}, validation Dice by class: "
        + ", ".join(f"{name} {value:.4f}" for name, value in one.val_class_dice.items())
        for one in comparison.standings
        if one.val_class_dice
    ]


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each paired difference."""
    names = {"val": "validation", "test": "test"}
    return [
        f"{one.leader} - {one.other}, {names[one.subset]} Dice: {one.difference.mean:+.4f} "
        f"({comparison.confidence:.0%} interval {one.difference.low:+.4f} to {one.difference.high:+.4f}): "
        + verdict(one)
        for one in comparison.differences
    ]


def verdict(difference: PairedDifference) -> str:
    """What an interval says about the lead."""
    if not difference.real:
        return "could be chance"
    return "the lead is real" if difference.difference.low > 0 else f"{difference.other} is better here"


def _standing(place: int, one: Entrant) -> Standing:
    return Standing(
        rank=place,
        candidate=one.name,
        val_dice=one.evaluation.val.dice,
        val_iou=one.evaluation.val.iou.mean,
        test_dice=one.evaluation.test.dice,
        test_iou=one.evaluation.test.iou.mean,
        val_class_dice=_class_dice(one.evaluation, one.evaluation.val),
        test_class_dice=_class_dice(one.evaluation, one.evaluation.test),
        parameters=one.parameters,
        registered=one.registration.registered,
        version=one.registration.version,
        reason=one.registration.reason,
    )


def _class_dice(evaluation: Evaluation, scores: SubsetScores) -> dict[str, float]:
    return {name: scores.by_class[name].dice.mean for name in evaluation.shown_classes}


def _columns(name: str, value: Any) -> dict[str, Any]:
    """A field of a standing as columns: an interval becomes three, classes one each."""
    if isinstance(value, Interval):
        return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    if isinstance(value, dict):
        return {f"{name}_{slug}": value[of] for of, slug in zip(value, slugs(list(value)), strict=True)}
    return {name: value}


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.4f} ({interval.low:.4f} to {interval.high:.4f})"
