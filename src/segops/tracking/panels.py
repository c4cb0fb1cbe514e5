"""A training's GradCAM panels as images of its run, each once under a stable key, with its epoch as step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow import MlflowClient

_EPOCH = re.compile(r"epoch_(\d+)")
# How MLflow names what `log_image` stores last; a picture without it was cut off in between.
_STORED = re.compile(r"images/(.+)\+step\+(\d+)\+timestamp\+.*\+compressed\.webp")


class Panel(NamedTuple):
    """Names a picture of an image after an epoch.

    Attributes:
        key: `view_gradcam/<image id>`, or of a fold or a further network `view_gradcam/<which>/<image id>`.
    """

    key: str
    epoch: int
    path: Path


def picture_key(kind: str, *names: str) -> str:
    """Build the key of a picture, replacing characters of names, such as a file's, that MLflow doesn't take.

    MLflow's chart view sorts by key and writes all params above each picture; `view_` sorts them after the metrics.
    """
    return "/".join([f"view_{kind}", *(re.sub(r"[^\w.-]", "_", name, flags=re.ASCII) for name in names)])


def find_panels(folder: Path, series: str = "") -> list[Panel]:
    """Return the panels below `folder`, sorted by epoch, or none if the folder is missing.

    Args:
        folder: holds `epoch_<number>/<image id>.png`, or folders of folds and further networks that do.
        series: `fold0/`, where the folder is one fold's.
    """
    panels = []
    for path in folder.rglob("epoch_*/[!.]*.png"):
        *own, epoch, _ = path.relative_to(folder).parts
        if found := _EPOCH.fullmatch(epoch):
            key = picture_key("gradcam", *filter(None, series.split("/")), *own, path.stem)
            panels.append(Panel(key, int(found[1]), path))
    return sorted(panels, key=lambda panel: (panel.epoch, panel.key))


def stored_panels(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """Return the key and step of each image that a run holds."""
    found = (_STORED.fullmatch(file.path) for file in client.list_artifacts(run_id, "images"))
    return {(stored[1].replace("~", "/"), int(stored[2])) for stored in found if stored}


def log_panels(client: MlflowClient, run_id: str, panels: Iterable[Panel], stored: set[tuple[str, int]]) -> None:
    """Log the panels that aren't in `stored`, and add them to it."""
    from PIL import Image

    for panel in panels:
        if (panel.key, panel.epoch) not in stored:
            with Image.open(panel.path) as picture:
                client.log_image(run_id, picture.convert("RGB"), key=panel.key, step=panel.epoch)
            stored.add((panel.key, panel.epoch))
