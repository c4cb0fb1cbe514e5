"""reports/tuning/: trials.csv, pictures by candidate, and index.html, one page for all searches."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segops.contracts.tables import write_csv
from segops.contracts.trials import TrialRecord, complete
from segops.contracts.tuned import Gain, TunedCandidate
from segops.files import atomic_path, write_text
from segops.reports.charts.tuning import Picture, pictures
from segops.reports.numbers import number, signed
from segops.reports.pages import render
from segops.tuning.study import Search

_COLUMNS = ("candidate", "study", "trial", "state", "dice", "milliseconds", "epochs", "reason")


@dataclass(frozen=True)
class Searched:
    """Holds a search with its trials and its result."""

    search: Search
    importances: dict[str, float]  # of its params, in sum 1; empty where they can't be told
    trials: list[TrialRecord]
    result: TunedCandidate

    @property
    def begun(self) -> list[TrialRecord]:
        """Return the trials without the slots that a search in minutes didn't come to."""
        return [trial for trial in self.trials if trial.ended or trial.key is not None]


def write_report(found: Sequence[Searched], untouched: Sequence[str], folder: Path) -> None:
    """Write trials.csv, `<candidate>/<picture>.png` and index.html. None of them holds a time.

    Args:
        untouched: candidates that aren't searched.
    """
    shown = {searched.search.candidate: _pictures(searched) for searched in found}
    for candidate, made in shown.items():
        for name, _, content in made:
            with atomic_path(folder / candidate / f"{name}.png") as partial:
                partial.write_bytes(content)
    write_csv(_table(found), folder / "trials.csv")
    write_text(folder / "index.html", _page(found, untouched, shown))


def _pictures(searched: Searched) -> list[Picture]:
    """Draw the charts of a search."""
    return pictures(searched.search.search.space, searched.trials, searched.importances, searched.result.trial)


def _table(searches: Sequence[Searched]) -> pd.DataFrame:
    """Make one row per trial that began: what became of it, then its values by path, as JSON."""
    paths = sorted({path for searched in searches for path in searched.search.search.space})
    rows = [
        (
            searched.search.candidate, searched.search.study, trial.number, trial.state, trial.dice,
            trial.milliseconds, len(trial.curve), trial.reason or "",
            *(json.dumps(trial.values[path]) if path in trial.values else "" for path in paths),
        )
        for searched in searches
        for trial in searched.begun
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*_COLUMNS, *paths], dtype=object)


def _page(found: Sequence[Searched], untouched: Sequence[str], shown: dict[str, list[Picture]]) -> str:
    """Render the page as HTML, with the pictures in it."""
    uris = {
        candidate: [
            (name, caption, "data:image/png;base64," + base64.b64encode(content).decode())
            for name, caption, content in made
        ]
        for candidate, made in shown.items()
    }
    return render(
        "tuning.html.j2",
        found=found,
        untouched=untouched,
        pictures=uris,
        counts=_counts,
        gain=_gain,
        dice=lambda value: number(value, 4),
        text=_text,
        confirmed=all(searched.result.gain is not None for searched in found),
        complete=complete,
    )


def _text(value: Any) -> str:
    """Write a param's value; of a number four significant digits, trials.csv has all."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def _counts(searched: Searched) -> str:
    """Write how many trials ended in each state, and how many weren't begun."""
    states = [trial.state for trial in searched.begun]
    left = len(searched.trials) - len(states)
    shown = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join([*shown, f"{left} not begun"] if left else shown)


def _gain(gain: Gain) -> str:
    """Write the mean gain over seeds, with its standard deviation where there is one."""
    spread = "" if gain.deviation is None else f", standard deviation {number(gain.deviation, 4)}"
    return f"{signed(gain.mean, 4)} over {len(gain.seeds)} seeds{spread}"
