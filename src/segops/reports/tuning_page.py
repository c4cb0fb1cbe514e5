"""reports/tuning/: trials.csv, pictures by candidate, and index.html, one page for all searches."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segops.contracts.trials import TrialRecord, complete
from segops.contracts.tuned import Gain, TunedCandidate
from segops.files import atomic_path, write_text
from segops.reports.charts.tuning import Picture, pictures
from segops.reports.pages import number, render
from segops.tuning.study import Search

_COLUMNS = ("candidate", "study", "trial", "state", "dice", "milliseconds", "epochs", "reason")


@dataclass(frozen=True)
class Searched:
    """A search with its result."""

    search: Search
    importances: dict[str, float]  # of its params, in sum 1; empty where they can't be told
    trials: list[TrialRecord]
    result: TunedCandidate

    @property
    def begun(self) -> list[TrialRecord]:
        """Without the slots that a search in minutes didn't come to."""
        return [trial for trial in self.trials if trial.ended or trial.key is not None]


def write_report(found: Sequence[Searched], untouched: Sequence[str], folder: Path) -> None:
    """Write trials.csv, `<candidate>/<picture>.png` and index.html. None of them holds a time.

    Args:
        untouched: candidates that aren't searched.
    """
    shown = {one.search.candidate: _pictures(one) for one in found}
    for candidate, made in shown.items():
        for name, _, content in made:
            with atomic_path(folder / candidate / f"{name}.png") as partial:
                partial.write_bytes(content)
    write_text(folder / "trials.csv", _table(found))
    write_text(folder / "index.html", _page(found, untouched, shown))


def _pictures(one: Searched) -> list[Picture]:
    return pictures(one.search.search.space, one.trials, one.importances, one.result.trial)


def _table(found: Sequence[Searched]) -> str:
    """A row a trial that began: columns, then the values of every space by path, as JSON."""
    paths = sorted({path for one in found for path in one.search.search.space})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *paths])
    for one in found:
        for trial in one.begun:
            about = (one.search.candidate, one.search.study, trial.number, trial.state)
            scores = ("" if score is None else repr(score) for score in (trial.dice, trial.milliseconds))
            values = (json.dumps(trial.values[path]) if path in trial.values else "" for path in paths)
            writer.writerow([*about, *scores, len(trial.curve), trial.reason or "", *values])
    return text.getvalue()


def _page(found: Sequence[Searched], untouched: Sequence[str], shown: dict[str, list[Picture]]) -> str:
    uris = {
        candidate: [
            (name, caption, "data:image/png;base64," + base64.b64encode(content).decode())
            for name, caption, content in made
        ]
        for candidate, made in shown.items()
    }
    return render(
        _PAGE,
        found=found,
        untouched=untouched,
        pictures=uris,
        counts=_counts,
        gain=_gain,
        dice=lambda value: number(value, 4),
        text=lambda value: value if isinstance(value, str) else json.dumps(value),
        complete=complete,
    )


def _counts(one: Searched) -> str:
    states = [trial.state for trial in one.begun]
    left = len(one.trials) - len(states)
    shown = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return ", ".join([*shown, f"{left} not begun"] if left else shown)


def _gain(gain: Gain) -> str:
    spread = "" if gain.deviation is None else f", standard deviation {gain.deviation:.4f}"
    return f"{gain.mean:+.4f} over {len(gain.seeds)} seeds{spread}"


_PAGE = """{% extends "page.html" %}
{% block title %}Search for hyperparameters{% endblock %}
{% block body %}
<style>figure.wide { margin: 14px 0 22px; } figure.wide img { background: #fff; }
.candidate { margin-top: 44px; }</style>
<h1>Search for hyperparameters</h1>
<p class="soft">Scores are the Dice of validation images at the candidate's size, of the epoch whose weights training
keeps. The test set takes no part. In the pictures the hollow dot is the candidate as it was, the orange one was taken.
</p>
{% if untouched %}<p>Not searched: {% for name in untouched %}<code>{{ name }}</code> {% endfor %}</p>{% endif %}
{% for one in found %}
{% set result = one.result %}
<h2 class="candidate">{{ one.search.candidate }}</h2>
<p class="soft">Study <code>{{ one.search.study }}</code>: {{ counts(one) }}; sampler
<code>{{ one.search.tune.sampler }}</code>, pruner <code>{{ one.search.tune.pruner }}</code>.</p>
<div class="cards">
<div class="card">taken: trial {{ result.trial }}<div class="value">{{ dice(result.score) }}</div>
<small class="soft">validation Dice</small></div>
<div class="card">as it was: trial 0<div class="value">{{ dice(result.default_score) }}</div>
<small class="soft">validation Dice</small></div>
{% if result.gain is not none %}
<div class="card">gain{% if result.rejected is not none %} of trial {{ result.rejected }}{% endif %}
<div class="value {{ "good" if result.gain.mean > 0 else "bad" }}">{{ "%+.4f"|format(result.gain.mean) }}</div>
<small class="soft">{{ gain(result.gain) }}</small></div>
{% endif %}
{% if result.milliseconds is not none %}
<div class="card">speed<div class="value">{{ "%.1f"|format(result.milliseconds) }} ms</div>
<small class="soft">an image</small></div>
{% endif %}
</div>
{% if result.rejected is not none %}<p class="warn">Trial {{ result.rejected }} scored higher, but its lead did not hold
over the seeds, so the candidate keeps its own params.</p>{% endif %}
{% if result.values %}
<table><tr><th>param</th><th>taken</th></tr>
{% for path, value in result.values.items() %}<tr><td><code>{{ path }}</code></td>
<td><code>{{ text(value) }}</code></td></tr>{% endfor %}</table>
{% endif %}
{% if result.gain is not none %}
<h3>Best and defaults by seed</h3>
<table><tr><th>seed</th><th class="number">best trial</th><th class="number">defaults</th>
<th class="number">difference</th></tr>
{% for seed in result.gain.seeds %}
<tr><td>{{ seed }}</td><td class="number">{{ dice(result.gain.best[loop.index0]) }}</td>
<td class="number">{{ dice(result.gain.default[loop.index0]) }}</td>
<td class="number">{{ "%+.4f"|format(result.gain.differences[loop.index0]) }}</td></tr>
{% endfor %}</table>
{% endif %}
{% for name, caption, uri in pictures[one.search.candidate] %}
<figure class="wide"><img src="{{ uri }}" alt="{{ name }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
<h3>Trials</h3>
<div class="scroll"><table><tr><th>trial</th><th>state</th><th class="number">Dice</th><th class="number">epochs</th>
<th>values</th></tr>
{% for trial in one.begun %}
<tr><td>{{ trial.number }}</td><td>{{ trial.state }}{% if trial.reason %}<br>
<small class="bad">{{ trial.reason }}</small>{% endif %}</td>
<td class="number">{{ dice(trial.dice) }}</td><td class="number">{{ trial.curve|length }}</td>
<td>{% for path, value in trial.values.items() %}<code>{{ path }}: {{ text(value) }}</code>{{ "; " if not loop.last }}
{% endfor %}</td></tr>
{% endfor %}</table></div>
{% endfor %}
{% endblock %}
"""
