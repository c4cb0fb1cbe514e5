"""This project's candidates, by their own stages, with as many epochs as the CPU time holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmarks.anchors.foreign import FIGURES, seconds_of

PARAMS = Path(__file__).parents[1] / "anchors.yaml"
KEPT = ".segops"  # caches and checkpoints
WEIGHTS = "lite0.safetensors"
FROZEN = {"lite_pretrained": 0.2, "lite_frozen": 1.0}  # share of the epochs in which the encoder rests
SMALL = {"ours_small": 0.5}  # share of the epochs on images of half the size
CHEAP = FROZEN | SMALL
UNTRAINED = ("otsu",)
STAGES = ("ingest", "validate", "split", "prepare")


def prepare(out: Path) -> None:
    """Make the data that all methods share, unless they are there."""
    if (out / "data/prepared/prepared.json").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load(PARAMS.read_text())
    params["ingest"]["source"] = str((PARAMS.parents[1] / params["ingest"]["source"]).resolve())
    (out / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in STAGES:
        segops(out, stage)


@dataclass(frozen=True)
class Candidate:
    """A candidate in a folder of its own, whose `data` is the shared one."""

    name: str
    folder: Path
    seed: int

    def run(self, minutes: float, weights: Path | None) -> None:
        """Train within the budget, evaluate, and write the figures; another seed's epochs hold for this one too."""
        shutil.rmtree(
            self.folder / KEPT, ignore_errors=True
        )  # of a run that was cut off: what is resumed can't be timed
        links = {"data": self.folder.parent / "data"} | ({WEIGHTS: weights} if weights else {})
        for link, target in links.items():
            (self.folder / link).unlink(missing_ok=True)
            (self.folder / link).symlink_to(target.resolve())
        versions = {name: version(name) for name in ("segops", "torch")}
        figures: dict[str, Any] = {"versions": versions, "budget": minutes}
        spent: dict[str, float] = {}
        if self.name in UNTRAINED:
            self._configure(1, 0)
        else:
            spent["timing"] = seconds_of(lambda: figures.update(epochs=self.epochs_of(minutes)))
            self._configure(figures["epochs"], round(figures["epochs"] * CHEAP.get(self.name, 0)))
        spent["train"] = seconds_of(lambda: segops(self.folder, "train", self.name))
        spent["predict"] = seconds_of(lambda: segops(self.folder, "evaluate", self.name))
        figures["minutes"] = {name: round(seconds / 60, 3) for name, seconds in spent.items()}
        (self.folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n")

    def epochs_of(self, minutes: float) -> int:
        """Return how many epochs the budget holds: as many as another seed had in it, or by timing."""
        for path in sorted(self.folder.parent.glob(f"{self.name}-*/{FIGURES}")):
            figures: dict[str, Any] = json.loads(path.read_text())
            if figures.get("budget") == minutes:
                return int(figures["epochs"])
        return self.epochs_within(60 * minutes)

    def epochs_within(self, seconds: float) -> int:
        """Return how many epochs fit into CPU seconds, by short trainings, the first to fill caches."""
        self.trial(1)
        two_s, four_s = self.trial(2), self.trial(4)
        epoch_s, share = (four_s - two_s) / 2, CHEAP.get(self.name, 0.0)
        fixed_s = two_s - 2 * epoch_s
        if share:
            epoch_s -= share * (two_s - self.trial(2, cheap=1))
        return max(1, int((seconds - fixed_s) / epoch_s))

    def trial(self, epochs: int, cheap: int = 0) -> float:
        """Return the CPU seconds of a short training."""
        self._configure(epochs, cheap, checkpoints=f"{KEPT}/trials")
        return seconds_of(lambda: segops(self.folder, "train", self.name))

    def _configure(self, epochs: int, cheap: int, checkpoints: str = f"{KEPT}/checkpoints") -> None:
        """Write the folder's params.yaml; in `cheap` epochs the encoder rests, or images are small."""
        params = yaml.safe_load(PARAMS.read_text())
        candidate = params["candidates"][self.name]
        if self.name not in UNTRAINED:
            candidate["recipe"] |= {"epochs": epochs, "seed": self.seed}
        if "pretrained" in candidate["model"]:
            candidate["model"]["pretrained"]["freeze_epochs"] = cheap
        if self.name in SMALL:
            candidate["recipe"]["small_epochs"] = cheap
        params["runtime"]["checkpoint_root"] = checkpoints
        params["candidates"] = {self.name: candidate}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))


def segops(folder: Path, *arguments: str) -> None:
    """Run a stage in a folder."""
    with (folder / "log.txt").open("a") as log:
        command = [str(Path(sys.executable).with_name("segops")), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=log, stderr=log)
