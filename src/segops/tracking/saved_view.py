"""The saved view of MLflow's runs page: which columns and charts it opens with, as its UI (3.17) keeps them.

A view is a tag of the experiment, which the UI lists by name and a link opens by key. It depends on nothing but a test
set, so that whoever writes it writes the same. MLflow draws a section of its own for each prefix of the figures' names;
ours come first, and those are folded.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from segops.tracking.pictures import SECTION
from segops.tracking.runs import ALIAS_TAG, KEY_TAG, PROGRESS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TAG = "mlflow.sharedViewState."
_DEFLATE = "deflate;"
_COLUMNS = {  # and its width in px
    "tags.`validation Dice`": 180,
    "tags.`test Dice`": 180,
    f"tags.`{ALIAS_TAG}`": 95,
    "attributes.`Models`": 170,
    "metrics.`val/native_ap`": 100,
    "metrics.`val/native_ece`": 110,
    "metrics.`cost/ms_an_image`": 130,
    "metrics.`model/parameters`": 130,
    f"tags.`{PROGRESS_TAG}`": 230,
}
_FOLDED = (
    SECTION,
    "test",
    "val",
    "train",
    "published",
    "out_of_fold",
    "model",
    "cost",
    "Model metrics",
    "System metrics",
)


class Section(NamedTuple):
    """Holds cards under a heading.

    Attributes:
        columns: cards side by side.
    """

    name: str
    columns: int
    height_px: int
    cards: tuple[dict[str, Any], ...]


def _bars(metric: str) -> dict[str, Any]:
    """Describe bars of a figure, a run each."""
    return {"type": "BAR", "metricKey": metric}


def _curves(*metrics: str) -> dict[str, Any]:
    """Describe curves of figures by epoch, for each run."""
    return {
        "type": "LINE",
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
    }


def _picture(key: str) -> dict[str, Any]:
    """Describe a picture that each run has under the same key, without the run's params above it."""
    return {"type": "IMAGE", "imageKeys": [f"{SECTION}/{key}"], "step": 0, "showRunParams": False}


_SECTIONS = (
    Section(
        "Curves",
        2,
        320,
        (
            _curves("val/dice"),
            _curves("train/loss", "val/loss"),
        ),
    ),
    Section(
        "Scores and their intervals",
        3,
        240,
        (
            _bars("val/native_dice_low"),
            _bars("val/native_dice"),
            _bars("val/native_dice_high"),
            _bars("test/dice_low"),
            _bars("test/dice"),
            _bars("test/dice_high"),
        ),
    ),
    Section(
        "What differs",
        1,
        300,
        (
            {
                "type": "DIFFERENCE",
                "chartName": "What differs",
                "compareGroups": ["Parameters"],
                "showChangeFromBaseline": False,
                "showDifferencesOnly": True,
                "baselineColumnUuid": "",
            },
        ),
    ),
    Section("Test images", 1, 1260, (_picture("test"),)),
    Section("Confusion of pixels", 1, 500, (_picture("confusion"),)),
    Section("Curves of pixels", 1, 1180, (_picture("curves"),)),
    Section("While it learns: GradCAM", 1, 820, (_picture("gradcam"),)),
)


def view_key(test_sha256: str) -> str:
    """Return the key of the view of the candidates judged on a test set."""
    return f"candidates-{test_sha256[:8]}"


def keep_view_of(client: MlflowClient, run: Run) -> None:
    """Write the view of the candidates judged on a run's test set, unless the experiment has exactly this one."""
    test_sha256, experiment_id = run.data.tags.get("test_sha256"), run.info.experiment_id
    if test_sha256 is None:  # of a run that is no candidate's
        return
    name = f"Candidates on {run.data.tags.get('dataset', 'data')}, test set {test_sha256[:8]}"
    state = view_state(test_sha256)
    tag = f"{_TAG}{view_key(test_sha256)}"
    held = _read(client.get_experiment(experiment_id).tags.get(tag, ""))
    if held != (name, state):
        packed = _DEFLATE + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
        client.set_experiment_tag(experiment_id, tag, json.dumps({"name": name, "createdAt": 0, "state": packed}))


def _read(tag: str) -> tuple[str, Any] | None:
    """Return name and state of a stored view, or None where it can't be read: another's zlib packs other bytes."""
    try:
        stored = json.loads(tag)
        packed = base64.b64decode(stored["state"].removeprefix(_DEFLATE))
        return stored["name"], json.loads(zlib.decompress(packed))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None


def view_state(test_sha256: str) -> dict[str, Any]:
    """Describe the view as MLflow's page does: what is searched, columns, charts."""
    return {
        "searchFilter": f"tags.test_sha256 = '{test_sha256}' and tags.`{KEY_TAG}` LIKE '%'",
        "orderByKey": "metrics.`val/native_dice`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(_COLUMNS),
        "columnOrder": list(_COLUMNS),
        "columnWidths": _COLUMNS,
        "compareRunSections": list(_sections()),
        "compareRunCharts": list(_charts()),
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": True,
        "runListHidden": True,
        "groupBy": None,
        "useGroupedValuesInCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _sections() -> Iterator[dict[str, Any]]:
    """Yield our sections open, then MLflow's folded."""
    for section in _SECTIONS:
        shown = {"columns": section.columns, "cardHeight": section.height_px, "display": True}
        yield {"uuid": section.name, "name": section.name, "isReordered": True, "deleted": False, **shown}
    for name in _FOLDED:
        yield {"uuid": name, "name": name, "isReordered": True, "deleted": False, "display": False}


def _charts() -> Iterator[dict[str, Any]]:
    """Yield the cards of all sections."""
    for section in _SECTIONS:
        for number, card in enumerate(section.cards):
            own = {"uuid": f"{section.name} {number}", "metricSectionId": section.name}
            yield {**own, "deleted": False, "isGenerated": False, "runsCountToCompare": 20, **card}


def view_path(experiment_id: str, test_sha256: str, *, charts: bool = False) -> str:
    """Return the place of the view on MLflow's pages, as the table of runs or as charts."""
    words = {"workflowType": "machine_learning", "viewStateShareKey": view_key(test_sha256)}
    mode = {"compareRunsMode": "CHART"} if charts else {}
    return f"#/experiments/{experiment_id}/runs?{urlencode({**words, **mode})}"
