"""A stage is a process of its own, so people wait for its imports: each does without some heavy packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PARAMS = """
ingest:
  source: synthetic://nuclei?n=24&size=32&seed=7&tiles=2
  name: tiny
  mask_values: {"0": background, "255": nucleus}
split: {fractions: [0.5, 0.25, 0.25], seed: 9}
tune: {searches: {}}
register: {floors: {dice: 0.0, iou: 0.0}}
candidates:
  small:
    model: {architecture: unet, base_filters: 2, depth: 1}
    input: {size: 32}
    recipe: {epochs: 1, batch_size: 4, precision: fp32, loss: {name: bce_dice}}
"""
_HEAVY = (
    "torch", "torch._dynamo", "mlflow", "great_expectations", "monai", "lightning_fabric", "optuna", "matplotlib",
    "scipy.stats", "skimage", "sklearn", "boto3", "kfp", "zarr",
)  # fmt: skip
_RUN = "import sys; from segops.cli.main import main\ntry: main()\nexcept SystemExit as end: assert not end.code\n"
_RUN += f"print(*[name for name in {_HEAVY} if name in sys.modules], file=open(sys.argv[-1] + '.modules', 'w'))"
_MAY: dict[str, set[str]] = {
    "ingest": {"skimage"},
    "validate": {"great_expectations", "matplotlib", "scipy.stats", "boto3", "sklearn", "skimage"},
    "split": {"matplotlib"},
    "prepare": set(),
    "tune": {"torch", "mlflow", "matplotlib", "scipy.stats", "optuna", "sklearn"},
    "train small": {"torch", "torch._dynamo", "mlflow", "lightning_fabric", "sklearn"},
    "evaluate small": {"torch", "matplotlib", "scipy.stats"},
    "register small": {"mlflow", "matplotlib", "torch", "torch._dynamo", "sklearn"},
    "compare": {"mlflow", "matplotlib", "scipy.stats"},
}


def imported(stage: str, folder: Path) -> set[str]:
    """Run a stage in a process of its own, and return the heavy packages that it has imported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-c", _RUN, *stage.split()]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr.partition("Traceback")[0]
    return set((folder / f"{stage.split()[-1]}.modules").read_text().split())


def test_ingest_imports_no_torch_and_no_tracking(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(_PARAMS)
    assert imported("ingest", tmp_path) <= _MAY["ingest"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_stage_imports_more_than_it_may(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(_PARAMS)
    for stage, may in _MAY.items():
        assert imported(stage, tmp_path) <= may, stage
