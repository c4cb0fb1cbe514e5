"""The graph on synthetic volumes in both modes: params, and its stages up to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segops.data.sources.organs import CLASSES
from segops.params.candidate import CandidateParams
from segops.params.project import Params
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.validate import validate

SOURCE = "synthetic://organs?n=16&size=24&depth=8&seed=7"
WINDOW = {"window": [0, 700]}
FAST = {"precision": "fp32", "init": "he", "ema_decay": None, "precise_bn_images": 16}
SLICES: dict[str, Any] = {
    "model": {"architecture": "resunet", "filters": [4, 8, 16]},
    "input": {"size": 32, "channels": 1, "clip": WINDOW, "slices": {"axis": "axial", "every": 2, "empty_share": 0.5}},
    "recipe": {**FAST, "epochs": 2, "batch_size": 8},
}
VOLUMES: dict[str, Any] = {
    "model": {"architecture": "unet_3d", "base_filters": 2, "depth": 1},
    "input": {"size": [8, 12, 12], "channels": 1, "clip": WINDOW, "resize": "none", "spacing_mm": [3.0, 1.5, 1.5]},
    "recipe": {**FAST, "epochs": 2, "batch_size": 4, "patches_per_image": 2},
}


def project(**candidates: dict[str, Any]) -> Params:
    """All of params.yaml for small synthetic volumes; both modes where no candidate is given."""
    return Params.model_validate(
        {
            "runtime": {"threads": 1, "device": "cpu"},
            "tracking": {"model_name": "organs"},
            "ingest": {
                "source": SOURCE,
                "name": "organs",
                "dimensions": 3,
                "mask_values": CLASSES,
                "modality": "MR",
            },
            "validate": {"dtypes": ["int16"], "min_size_px": 16, "min_images": 8},
            "split": {"fractions": [0.5, 0.25, 0.25], "folds": 3},
            "candidates": candidates or {"slices": SLICES, "volumes": VOLUMES},
            "register": {"floors": {"dice": 0.0, "iou": 0.0}},
            "evaluate": {"gallery_images": 1},
        }
    )


def params_of(entry: dict[str, Any], **recipe: Any) -> CandidateParams:
    """A candidate's params, with another recipe."""
    return CandidateParams.model_validate({**entry, "recipe": {**entry["recipe"], **recipe}})


def prepare_volumes(params: Params, folder: Path) -> Path:
    """Run the stages up to prepare; return the prepared folder."""
    ingest(params.ingest, dataset=folder / "dataset")
    validate(params.validate_, dataset=folder / "dataset", report=folder / "reports" / "validation")
    split(params.split, dataset=folder / "dataset", report=folder / "reports" / "validation", split=folder / "split")
    prepare(dataset=folder / "dataset", split=folder / "split", prepared=folder / "prepared")
    return folder / "prepared"
