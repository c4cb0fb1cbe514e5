"""compare: which candidate leads on validation, and is the lead real. The test set is shown and chooses nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.contracts.comparison import Comparison
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.contracts.scores import Interval, Standing, SubgroupDifference, SubsetScores, mean_of
from segops.contracts.tables import slugs
from segops.errors import UserError
from segops.files import atomic_path, output_folder, run_record, write_text
from segops.params.compare import CompareParams
from segops.params.tracking import TrackingParams
from segops.reports.comparison_page import ComparisonPage, Times, read_times

if TYPE_CHECKING:
    from segops.comparison.paired import Half, Judged
    from segops.pictures.thumbnails import Thumbnails

LEADERBOARD_FILE = "leaderboard.csv"
PAGE_FILE = "index.html"
_LINE_WIDTH = 120  # of a file or a pipe, characters
_NAMED = 5  # subgroups that a sentence names


@dataclass(frozen=True)
class Entrant:
    """A candidate's files, read."""

    judged: Judged
    trained: TrainedModel
    evaluation: Evaluation
    registration: Registration
    gflops: float
    thumbnails: Thumbnails
    times: Times

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.judged.name


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


def read_entrant(name: str, report: Path, model: Path) -> Entrant:
    """A candidate's evaluation, registration and per-image table, which must be of the same weights."""
    from segops.comparison.paired import Judged
    from segops.inference.flops import image_gflops
    from segops.pictures.thumbnails import THUMBNAILS_FILE, Thumbnails
    from segops.stages.register import load_pair
    from segops.tracking.model import read_per_image

    trained, evaluation = load_pair(model, report)
    registration = Registration.load(report)
    if registration.weights_sha256 != evaluation.weights_sha256:
        raise UserError(
            f"{report / Registration.FILE} is of other weights than {report / Evaluation.FILE}; "
            f"run register for '{name}' again (`dvc repro`)"
        )
    return Entrant(
        judged=Judged(name, read_per_image(report, evaluation.classes)),
        trained=trained,
        evaluation=evaluation,
        registration=registration,
        gflops=image_gflops(trained),
        thumbnails=Thumbnails(report / THUMBNAILS_FILE),
        times=read_times(report, model),
    )


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


def print_leaderboard(comparison: Comparison) -> None:
    """Print what to do, the standings, and whether the lead is real, on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=_LINE_WIDTH)
    console.print(comparison.decision, soft_wrap=True, markup=False)
    level = f"{comparison.confidence:.0%}"
    columns = ("rank", "candidate", f"validation Dice ({level})", f"test Dice ({level})", "parameters", "version")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for one in comparison.standings:
        version = str(one.version) if one.registered else "not registered"
        name = f"{one.candidate} *" if one.candidate == comparison.challenger else one.candidate
        table.add_row(
            str(one.rank), name, one.val_dice.words(4), one.test_dice.words(4), f"{one.parameters:,}", version
        )
    console.print(table)
    console.print(
        "* challenger: the best registered candidate on validation" if comparison.challenger else "no challenger"
    )
    for sentence in [*by_class(comparison), *verdicts(comparison), *setbacks(comparison)]:
        console.print(sentence, soft_wrap=True)


def by_class(comparison: Comparison) -> list[str]:
    """One line for each candidate with its Dice on validation by class; none for two classes."""
    return [
        f"{one.candidate}, validation Dice by class: "
        + ", ".join(f"{name} {'none' if v is None else f'{v:.4f}'}" for name, v in one.val_class_dice.items())
        for one in comparison.standings
        if one.val_class_dice
    ]


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each paired difference of the leader."""
    from segops.comparison.verdict import SUBSETS, verdict

    leader = comparison.standings[0].candidate
    return [
        f"{one.a} - {one.b}, {SUBSETS[one.subset]} Dice: {one.difference.mean:+.4f} "
        f"({comparison.confidence:.0%} interval {one.difference.range_words(4, signed=True)}"
        + (f", adjusted p {one.adjusted_p:.2g}" if one.adjusted_p is not None else "")
        + (f", effect {one.effect:+.2f}" if one.effect is not None else "")
        + f"): {verdict(one, comparison.confidence)}"
        for one in comparison.differences
        if one.a == leader
    ]


def setbacks(comparison: Comparison) -> list[str]:
    """One sentence for each other candidate and subset in whose subgroups the leader falls behind, the worst first."""
    from segops.comparison.verdict import SUBSETS

    found: dict[tuple[str, Half], list[SubgroupDifference]] = {}
    for one in comparison.subgroups:
        if one.regressed:
            found.setdefault((one.b, one.subset), []).append(one)
    leader = comparison.standings[0].candidate
    sentences = []
    for (other, subset), fallen in found.items():
        worst = sorted(fallen, key=lambda one: one.difference.mean)
        named = ", ".join(f"{one.kind} {one.name} {one.difference.mean:+.4f}" for one in worst[:_NAMED])
        more = f" and {len(worst) - _NAMED} more" if len(worst) > _NAMED else ""
        sentences.append(f"{leader} falls behind {other}, {SUBSETS[subset]} Dice: {named}{more}")
    return sentences


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
