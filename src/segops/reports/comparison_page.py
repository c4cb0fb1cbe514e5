"""reports/comparison/index.html, put together from what the candidates' files say.

The page is for people: it shows times that run.json files hold, so it isn't equal on two machines. comparison.json is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from segops.contracts.base import Subset
from segops.contracts.comparison import Comparison
from segops.contracts.scores import ReliabilityBin, SubgroupDifference
from segops.params.compare import CompareParams

if TYPE_CHECKING:
    import pandas as pd

    from segops.comparison.entrants import Entrant
    from segops.comparison.paired import Half
    from segops.tracking.champion_run import ChampionRun

_MOST_WITH_ALL_PAIRS = 4  # candidates; of more, only the leader's pairs are shown image by image


class ComparisonPage:
    """Holds the page's content but for the links to galleries, which depend on where the page is."""

    def __init__(
        self,
        comparison: Comparison,
        entrants: Sequence[Entrant],
        params: CompareParams,
        champion: ChampionRun | None = None,
    ) -> None:
        from segops.comparison.verdict import verdict
        from segops.pictures.heat_maps import VIRIDIS
        from segops.reports.answers import answers
        from segops.reports.charts import comparison as charts
        from segops.reports.charts.learning import learning_curves
        from segops.reports.charts.reliability import reliability
        from segops.reports.charts.split import balance
        from segops.reports.image_browser import image_browser

        by_name = {entrant.name: entrant for entrant in entrants}
        ranked = [by_name[standing.candidate] for standing in comparison.standings]
        leader = ranked[0]
        leads = [difference for difference in comparison.differences if difference.a == leader.name]
        bins: dict[str, dict[Half, list[ReliabilityBin]]] = {
            entrant.name: {"val": entrant.evaluation.val.reliability, "test": entrant.evaluation.test.reliability}
            for entrant in ranked
        }
        histories = {entrant.name: entrant.history for entrant in ranked if entrant.history is not None}
        self._context: dict[str, Any] = {
            "comparison": comparison,
            "level": f"{comparison.confidence:.0%}",
            "answers": answers(comparison, ranked, champion),
            "classes": leader.evaluation.shown_classes,
            "colours": dict(zip(leader.evaluation.classes[1:], leader.trained.class_colours[1:], strict=True)),
            "evaluations": {entrant.name: entrant.evaluation for entrant in ranked},
            "registrations": {entrant.name: entrant.registration for entrant in ranked},
            "times": {entrant.name: entrant.times for entrant in ranked},
            "data": leader.trained,
            "verdict": lambda difference: verdict(difference, comparison.confidence),
            "leads": leads,
            "subgroups": {entrant.name: _by_kind(comparison.subgroups, entrant.name) for entrant in ranked[1:]},
            "fewest": params.min_subgroup_images,
            "dice_drawing": charts.dice_intervals(comparison.standings),
            "leads_drawing": charts.difference_intervals("leads", leads) if leads else "",
            "histograms": charts.dice_histograms({entrant.name: _halves(entrant) for entrant in ranked}),
            "learning_drawing": learning_curves(histories) if histories else "",
            "balance_drawing": balance(_balance(leader), ()),
            "reliability_drawing": reliability(bins),
            "scatters": _scatters(ranked),
            "browser": image_browser(ranked, params.page_mib),
            "page_mib": params.page_mib,
            "heat": ", ".join(VIRIDIS),
        }

    def html(self, galleries: Mapping[str, str]) -> str:
        """Render the page as HTML.

        Args:
            galleries: links to galleries by candidate; empty where they aren't beside the page.
        """
        from segops.reports.pages import render

        return render("comparison.html.j2", **self._context, links=galleries)


def _scatters(ranked: Sequence[Entrant]) -> dict[tuple[str, str], str]:
    """Draw every pair of few candidates image by image, else the leader's alone; the leader's come first."""
    from segops.comparison.paired import HALVES, paired_rows
    from segops.reports.charts.comparison import scatter

    chosen = [pair for pair in combinations(ranked, 2) if len(ranked) <= _MOST_WITH_ALL_PAIRS or pair[0] is ranked[0]]
    return {
        (a.name, b.name): scatter(
            a.name, b.name, {subset: paired_rows(a.judged, b.judged, subset) for subset in HALVES}
        )
        for a, b in chosen
    }


def _halves(entrant: Entrant) -> dict[Half, pd.DataFrame]:
    """Return the rows of per_image.csv of validation and of test."""
    from segops.comparison.paired import HALVES

    table = entrant.judged.per_image
    return {subset: table[table["subset"] == subset] for subset in HALVES}


def _balance(entrant: Entrant) -> dict[str, dict[Subset, int]]:
    """Count images by subset: all, their groups, and by modality."""
    from segops.comparison.paired import HALVES

    halves, trained = _halves(entrant), entrant.trained
    modalities = {name: table["modality"].value_counts() for name, table in halves.items()}
    groups = {name: int(table["group_id"].nunique()) for name, table in halves.items()}
    rows: dict[str, dict[Subset, int]] = {
        "images": {"train": trained.train_images, "val": len(halves["val"]), "test": len(halves["test"])},
        "groups": {"train": trained.train_groups, "val": groups["val"], "test": groups["test"]},
    }
    shown = {*trained.train_modalities, *(str(name) for found in modalities.values() for name in found.index)}
    for name in sorted(shown):
        val, test = (int(modalities[half].get(name, 0)) for half in HALVES)
        rows[name] = {"train": trained.train_modalities.get(name, 0), "val": val, "test": test}
    return rows


def _by_kind(
    differences: Sequence[SubgroupDifference], other: str
) -> dict[str, dict[str, dict[str, SubgroupDifference]]]:
    """Return the differences from one candidate by kind, name and subset."""
    found: dict[str, dict[str, dict[str, SubgroupDifference]]] = {}
    for difference in differences:
        if difference.b == other:
            found.setdefault(difference.kind, {}).setdefault(difference.name, {})[difference.subset] = difference
    return found
