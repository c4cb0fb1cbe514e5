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

from segops.tracking.runs import ALIAS_TAG, KEY_TAG, PROGRESS_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "mlflow.sharedViewState."
_DEFLATE = "deflate;"
_COLUMNS = {  # and its width in px
    "tags.`candidate`": 110,
    "metrics.`val/native_dice`": 90,
    "metrics.`val/native_dice_low`": 90,
    "metrics.`val/native_dice_high`": 90,
    "metrics.`test/dice`": 90,
    "metrics.`test/dice_low`": 90,
    "metrics.`test/dice_high`": 90,
    "metrics.`val/native_ap`": 90,
    "metrics.`val/native_ece`": 90,
    "metrics.`cost/milliseconds_an_image`": 90,
    "metrics.`model/parameters`": 90,
    "attributes.`Models`": 150,
    f"tags.`{ALIAS_TAG}`": 90,
    f"tags.`{PROGRESS_TAG}`": 150,
}
_FOLDED = ("test", "val", "train", "published", "out_of_fold", "model", "cost", "Model metrics", "System metrics")


class Section(NamedTuple):
    """Holds cards under a heading.

    Attributes:
        columns: cards side by side.
    """

    name: str
    columns: int
    height_px: int
    cards: tuple[dict[str, Any], ...]


def _bars(title: str, metric: str) -> dict[str, Any]:
    """Describe bars of a figure, a run each."""
    return {"type": "BAR", "displayName": title, "metricKey": metric}


def _curves(title: str, *metrics: str) -> dict[str, Any]:
    """Describe curves of figures by epoch, for each run."""
    return {
        "type": "LINE",
        "displayName": title,
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
    }


def _picture(title: str, key: str) -> dict[str, Any]:
    """Describe a picture that each run has under the same key."""
    return {"type": "IMAGE", "displayName": title, "imageKeys": [key], "step": 0}


_SECTIONS = (
    Section(
        "Curves",
        2,
        320,
        (
            _curves("Validation Dice by epoch", "val/dice"),
            _curves("Loss by epoch: training, validation", "train/loss", "val/loss"),
        ),
    ),
    Section(
        "Scores, with the ends of their intervals",
        3,
        240,
        (
            _bars("Validation Dice", "val/native_dice"),
            _bars("Validation Dice, low end", "val/native_dice_low"),
            _bars("Validation Dice, high end", "val/native_dice_high"),
            _bars("Test Dice", "test/dice"),
            _bars("Test Dice, low end", "test/dice_low"),
            _bars("Test Dice, high end", "test/dice_high"),
        ),
    ),
    Section(
        "Pictures",
        1,
        720,
        (
            _picture("Test images: worst, median, best", "pictures/test"),
            _picture("Test images: the same of every candidate", "pictures/shared"),
            _picture("Curves of pixels", "pictures/curves"),
            _picture("What it looks at while it learns (GradCAM)", "pictures/gradcam"),
        ),
    ),
    Section(
        "What differs",
        1,
        480,
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
)


def view_key(test_sha256: str) -> str:
    """Return the key of the view of the candidates judged on a test set."""
    return f"candidates-{test_sha256[:8]}"


def keep_view(client: MlflowClient, experiment_id: str, *, dataset: str, test_sha256: str) -> None:
    """Write the view of the candidates judged on a test set, unless the experiment has exactly this one."""
    name, state = f"Candidates on {dataset}, test set {test_sha256[:8]}", view_state(test_sha256)
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
        "runListHidden": False,
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
