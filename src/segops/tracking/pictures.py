"""A run's pictures, each once under a key that all runs have, so that MLflow shows candidates side by side.

Its `log_image` shrinks what the chart view shows to 256 px, in which a montage is no picture. So the files are written
here, under the names that MLflow's pages (3.17) look for.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from segops.pictures.images import Picture, png
from segops.pictures.montage import Cell, montage

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECTION = "pictures"  # MLflow's chart view takes what stands before the slash of a key for a heading
_GRADCAM = f"{SECTION}/gradcam"
_EPOCH = re.compile(r"epoch_(\d+)")
_FOLDER = "images"
# key, step, time and digest; a picture without its second file was cut off in between.
_STORED = re.compile(_FOLDER + r"/(.+)\+step\+(\d+)\+timestamp\+\d+\+([0-9a-f]{32})\+compressed\.webp")
_SIDE_PX = 240
THIRD_PX, _HALF_PX = 400, 620
_QUALITY = 85

Stored = set[tuple[str, int, str]]


class RunPicture(NamedTuple):
    """Holds a picture of a run.

    Attributes:
        key: the same in all runs.
        content: PNG, which MLflow shows when the picture is clicked.
        step: the epoch it shows; 0: the finished candidate.
        shown_px: its width in the chart view, at most. Three of THIRD_PX stand side by side in a window of 1600 px.
    """

    key: str
    content: bytes
    step: int = 0
    shown_px: int = THIRD_PX

    @property
    def digest(self) -> str:
        """The hash of the picture, which is part of its file's name."""
        return hashlib.sha256(self.content).hexdigest()[:32]


def stored_pictures(client: MlflowClient, run_id: str) -> Stored:
    """Return key, step and digest of each picture that a run holds."""
    found = (_STORED.fullmatch(file.path) for file in client.list_artifacts(run_id, _FOLDER))
    return {(stored[1].replace("~", "/"), int(stored[2]), stored[3]) for stored in found if stored}


def log_pictures(client: MlflowClient, run_id: str, pictures: Iterable[RunPicture], stored: Stored) -> None:
    """Log the pictures that aren't in `stored`, and add them to it. Of several at a step MLflow shows the newest."""
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
    from PIL import Image

    for picture in pictures:
        entry = (picture.key, picture.step, picture.digest)
        if entry in stored:
            continue
        key = picture.key.replace("/", "~")
        name = f"{key}+step+{picture.step}+timestamp+{time.time_ns() // 1_000_000}+{picture.digest}"
        with tempfile.TemporaryDirectory() as scratch, Image.open(BytesIO(picture.content)) as opened:
            whole, shown = Path(scratch) / f"{name}.png", Path(scratch) / f"{name}+compressed.webp"
            whole.write_bytes(picture.content)
            scale = min(1.0, picture.shown_px / opened.width)
            small = opened.convert("RGB").resize((round(opened.width * scale), round(opened.height * scale)))
            small.save(shown, quality=_QUALITY)
            for path in (whole, shown):
                client.log_artifact(run_id, str(path), _FOLDER)
        client.set_tag(run_id, MLFLOW_LOGGED_IMAGES, "True")
        stored.add(entry)


def gradcam_pictures(folder: Path, series: str = "", after: int = 0) -> Iterator[RunPicture]:
    """Yield a picture for each epoch after `after` that has GradCAM panels: its images, one below the other.

    Args:
        folder: holds `epoch_<number>/<image id>.png`, or folders of folds and further networks that do.
        series: `fold0/`, where the folder is one fold's; part of the key.
    """
    for epoch in sorted(path for path in folder.rglob("epoch_*") if path.is_dir()):
        found = _EPOCH.fullmatch(epoch.name)
        panels = sorted(epoch.glob("[!.]*.png"))
        if found and int(found[1]) > after and panels:
            own = [part for part in (*series.split("/"), *epoch.relative_to(folder).parts[:-1]) if part]
            yield RunPicture("_".join([_GRADCAM, *own]), png(_sheet(panels)), int(found[1]), _HALF_PX)


def with_last(pictures: Iterable[RunPicture]) -> Iterator[RunPicture]:
    """Yield pictures of epochs, and each key's last again for the finished candidate: where MLflow's page begins."""
    last: dict[str, RunPicture] = {}
    for picture in pictures:
        last[picture.key] = picture
        yield picture
    yield from (picture._replace(step=0) for picture in last.values())


def _sheet(panels: list[Path]) -> Picture:
    """Lay panels, each four pictures wide, below one another."""
    from PIL import Image

    rows = []
    for path in panels:
        with Image.open(path) as opened:
            words = f"{path.stem}: image, truth, probability, GradCAM"
            rows.append([Cell(words, [np.asarray(opened.convert("RGB"))], [False])])
    return montage(rows, 4 * _SIDE_PX)
