"""What other packages' methods have in common: the pixels they get, the CPU time they have, and the masks they leave.

It runs in their environment, so it imports nothing of this project. Pixels are PNG, `train/image/ID.png` (RGB) and
`train/mask/ID.png` (0 and 1), likewise `val`; of `test` there are images alone. Axes: H height, W width, C channels.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FIGURES = "figures.json"


@dataclass(frozen=True)
class Task:
    """Holds what a method is started with."""

    pixels: Path
    out: Path
    minutes: float
    seed: int
    variant: dict[str, float]

    @property
    def seconds(self) -> float:
        """CPU seconds that the training may take."""
        return 60 * self.minutes

    def images(self, subset: str) -> list[Path]:
        """Return the images of a subset, by id."""
        return sorted((self.pixels / subset / "image").iterdir())


def read_task(**variant: float) -> Task:
    """Read the command line; `variant` holds the defaults of the method's own numbers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pixels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    for name, default in variant.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    told = vars(parser.parse_args())
    own = {name: told.pop(name) for name in variant}
    return Task(**told, variant=own)


def mask_of(image: Path) -> Path:
    """Return the path of an image's mask."""
    return image.parents[1] / "mask" / image.name


def read_image(path: Path) -> np.ndarray:
    """Return image_HWC or mask_HW, uint8."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def seconds_of(work: Callable[[], object], times: int = 1) -> float:
    """Return the CPU seconds that `work` takes, the mean of several times."""
    begin = cpu_seconds()
    for _ in range(times):
        work()
    return (cpu_seconds() - begin) / times


def set_seed(seed: int) -> None:
    """Seed the generators that these packages draw from, and keep torch to one thread."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def seeded(seed: int) -> Any:
    """Return a generator of torch for a loader's order."""
    import torch

    return torch.Generator().manual_seed(seed)


def write_masks(task: Task, predict: Callable[[np.ndarray], np.ndarray]) -> None:
    """Predict validation and test image by image: mask_HW from image_HWC, both uint8, at native size."""
    from PIL import Image

    for subset in ("val", "test"):
        folder = task.out / "masks" / subset
        folder.mkdir(parents=True, exist_ok=True)
        for path in task.images(subset):
            mask_HW = predict(read_image(path))
            Image.fromarray(np.asarray(mask_HW, np.uint8)).save(folder / path.name)


class Stopwatch:
    """Adds up CPU seconds by what they were spent on."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._since = cpu_seconds()

    def lap(self, name: str) -> None:
        """Count the time since the last lap as `name`."""
        now = cpu_seconds()
        self.spent[name] = self.spent.get(name, 0.0) + now - self._since
        self._since = now


def write_figures(task: Task, watch: Stopwatch, packages: tuple[str, ...], **more: Any) -> None:
    """Write what a method used: versions, CPU-minutes, epochs and steps."""
    figures = {
        "versions": {name: version(name) for name in packages},
        "minutes": {name: round(seconds / 60, 3) for name, seconds in watch.spent.items()},
        **more,
    }
    (task.out / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")


def batches(order: list[int], size: int) -> Iterator[list[int]]:
    """Yield the items of a list in parts."""
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]
