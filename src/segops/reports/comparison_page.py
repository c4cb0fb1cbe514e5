"""reports/comparison/index.html, put together from what the candidates' files say.

The page is for people: it shows times that run.json files hold, so it isn't equal on two machines. comparison.json is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from segops.contracts.comparison import Comparison
from segops.contracts.scores import ReliabilityBin, SubgroupDifference
from segops.params.compare import CompareParams

if TYPE_CHECKING:
    from segops.comparison.entrants import Entrant
    from segops.comparison.paired import Half
    from segops.reports.comparison_sheet import Row, Sheet

_MOST_WITH_ALL_PAIRS = 4  # candidates; of more, only the leader's pairs are shown image by image


@dataclass(frozen=True)
class Pair:
    """Holds what the page shows of two candidates image by image."""

    a: str
    b: str
    drawing: str
    val: list[Row]
    test: list[Row]


class ComparisonPage:
    """Holds the page's content but for the links to galleries, which depend on where the page is."""

    def __init__(self, comparison: Comparison, entrants: Sequence[Entrant], params: CompareParams) -> None:
        from segops.comparison.verdict import verdict
        from segops.reports.charts import comparison as charts
        from segops.reports.charts.reliability import reliability
        from segops.reports.comparison_sheet import Sheet

        by_name = {entrant.name: entrant for entrant in entrants}
        ranked = [by_name[standing.candidate] for standing in comparison.standings]
        leader = ranked[0]
        sheet = Sheet({entrant.name: entrant.thumbnails for entrant in ranked}, leader.trained.class_colours)
        leads = [difference for difference in comparison.differences if difference.a == leader.name]
        bins: dict[str, dict[Half, list[ReliabilityBin]]] = {
            entrant.name: {"val": entrant.evaluation.val.reliability, "test": entrant.evaluation.test.reliability}
            for entrant in ranked
        }
        images = leader.evaluation.val.images + leader.evaluation.test.images
        self._context: dict[str, Any] = {
            "comparison": comparison,
            "level": f"{comparison.confidence:.0%}",
            "classes": leader.evaluation.shown_classes,
            "colours": dict(zip(leader.evaluation.classes[1:], leader.trained.class_colours[1:], strict=True)),
            "evaluations": {entrant.name: entrant.evaluation for entrant in ranked},
            "times": {entrant.name: entrant.times for entrant in ranked},
            "verdict": lambda difference: verdict(difference, comparison.confidence),
            "leads": leads,
            "regressions": sum(subgroup.regressed is True for subgroup in comparison.subgroups),
            "subgroups": {entrant.name: _by_kind(comparison.subgroups, entrant.name) for entrant in ranked[1:]},
            "fewest": params.min_subgroup_images,
            "dice_drawing": charts.dice_intervals(comparison.standings),
            "leads_drawing": charts.difference_intervals("leads", leads) if leads else "",
            "reliability_drawing": reliability(bins),
            "pairs": _pairs(ranked, sheet, params.images),
            "available": f"{len(sheet.available)} of {images}",
            "partly": len(sheet.available) < images,
            "ignores": sheet.ignores,
            "sheet_css": sheet.css,
        }

    def html(self, galleries: Mapping[str, str]) -> str:
        """Render the page as HTML.

        Args:
            galleries: links to galleries by candidate; empty where they aren't beside the page.
        """
        from segops.reports.pages import render

        return render("comparison.html.j2", **self._context, links=galleries)


def _pairs(ranked: Sequence[Entrant], sheet: Sheet, images: int) -> list[Pair]:
    """Make every pair of few candidates, else the leader's alone; the leader's come first."""
    from segops.comparison.paired import HALVES, differing, paired_rows
    from segops.reports.charts.comparison import scatter

    chosen = [pair for pair in combinations(ranked, 2) if len(ranked) <= _MOST_WITH_ALL_PAIRS or pair[0] is ranked[0]]
    made = []
    for a, b in chosen:
        tables = {subset: paired_rows(a.judged, b.judged, subset) for subset in HALVES}
        shown = {
            subset: sheet.rows(rows, differing(rows[rows["image_id"].isin(sheet.available)], images), a.name, b.name)
            for subset, rows in tables.items()
        }
        made.append(Pair(a.name, b.name, scatter(a.name, b.name, tables), shown["val"], shown["test"]))
    return made


def _by_kind(
    differences: Sequence[SubgroupDifference], other: str
) -> dict[str, dict[str, dict[str, SubgroupDifference]]]:
    """Return the differences from one candidate by kind, name and subset."""
    found: dict[str, dict[str, dict[str, SubgroupDifference]]] = {}
    for difference in differences:
        if difference.b == other:
            found.setdefault(difference.kind, {}).setdefault(difference.name, {})[difference.subset] = difference
    return found
