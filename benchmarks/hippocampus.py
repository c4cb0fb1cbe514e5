"""Slices against volumes, paired by patient, on volumes in the layout of the Decathlon's hippocampus.

    python -m benchmarks.hippocampus FOLDER [--cases 40] [--epochs 12] [--source Task04_Hippocampus]

Without `--source`, which takes the real set, cases are drawn: of the real one's size (about 35 x 50 x 35 voxels of
1 mm, 32-bit floats whose scale differs from case to case), a curved body whose front and back are two classes, in
tissue with brighter and darker parts beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segops.contracts.comparison import Comparison
from segops.contracts.evaluation import Evaluation
from segops.data.sources.organs import encode_nifti
from segops.params.project import Params
from segops.stages.compare import compare
from segops.stages.evaluate import evaluate
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.register import register
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate

CLASSES = {0: "background", 1: "anterior", 2: "posterior"}
_RECIPE: dict[str, Any] = {"ema_decay": 0.9, "augment": {"rot90": False, "brightness": 0.1, "contrast": 0.1}}
_CLIP = {"percentiles": [0.5, 99.5]}


def main() -> None:
    """Run every stage in a folder, and print the scores and the paired difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--source", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ["DVC_ROOT"] = str(arguments.folder.resolve())
    source = (arguments.source or arguments.folder / "Task04_Hippocampus").resolve()
    if arguments.source is None:
        write_set(source, arguments.cases)
    with contextlib.chdir(arguments.folder):
        run(project(source, arguments.epochs))


def project(
    source: Path,
    epochs: int,
    *,
    name: str = "hippocampus",
    licence: str | None = None,
    classes: Mapping[int, str] = CLASSES,
    patch: Sequence[int] = (32, 40, 32),
) -> Params:
    """Return the params: a network for images on coronal slices, and one for volumes, of like size."""
    slices = {
        "model": {"architecture": "resunet", "filters": [8, 16, 32, 64]},
        "input": {
            "size": 64, "channels": 1, "clip": _CLIP, "resize": "pad",
            "slices": {"axis": "coronal", "every": 2, "empty_share": 0.5},
        },
        "recipe": {**_RECIPE, "epochs": epochs, "batch_size": 16},
    }  # fmt: skip
    volumes = {
        "model": {"architecture": "unet_3d", "base_filters": 8, "depth": 3},
        "input": {
            "size": list(patch), "channels": 1, "clip": _CLIP, "resize": "none", "spacing_mm": [1.0, 1.0, 1.0],
            "window_overlap": 0.5,
        },
        "recipe": {**_RECIPE, "epochs": epochs, "batch_size": 2, "patches_per_image": 2, "foreground_patches": 0.33},
    }  # fmt: skip
    return Params.model_validate(
        {
            "runtime": {"threads": 1, "device": "cpu"},
            "tracking": {"model_name": name},
            "ingest": {
                "source": str(source),
                "name": name,
                "licence": licence,
                "layout": "decathlon",
                "dimensions": 3,
                "mask_values": dict(classes),
                "modality": "MR",
            },
            "validate": {"dtypes": ["float32", "int16"], "min_size_px": 16},
            "split": {"fractions": [0.5, 0.25, 0.25], "seed": 0},
            "candidates": {"slices": slices, "volumes": volumes},
            "register": {"floors": {"dice": 0.0, "iou": 0.0}},
        }
    )


def run(params: Params) -> None:
    """Run the graph, and print a row for each candidate, then the differences."""
    data, report = Path("dataset"), Path("reports")
    ingest(params.ingest, dataset=data)
    validate(params.validate_, dataset=data, report=report / "validation")
    split(params.split, dataset=data, report=report / "validation", split=Path("split"))
    prepare(dataset=data, split=Path("split"), prepared=Path("prepared"))
    print("| candidate | Dice, test | surface Dice at 1 mm | HD95, mm | ASSD, mm | volume, ml: bias (limits) |")
    print("|---|---|---|---|---|---|")
    for name, candidate in params.candidates.items():
        model, own = Path("models") / name, report / "candidates" / name
        train(name, candidate, params.runtime, params.tracking, prepared=Path("prepared"), model=model)
        evaluate(params.evaluate, params.runtime, prepared=Path("prepared"), model=model, report=own)
        register(params.register_, params.tracking, model=model, report=own)
        print(_row(name, Evaluation.load(own)), flush=True)
    names = list(params.candidates)
    compare(
        params.compare,
        params.tracking,
        names,
        reports=report / "candidates",
        models=Path("models"),
        comparison=report / "comparison",
    )
    for pair in Comparison.load(report / "comparison").differences:
        print(json.dumps(pair.model_dump(mode="json")))


def _row(name: str, evaluation: Evaluation) -> str:
    """Return a candidate's row of the table."""
    test = evaluation.test
    volumes = test.volumes
    assert volumes is not None, "these volumes say their spacing"
    dice, surface = test.dice, volumes.surface_dice
    bias = "; ".join(
        f"{label} {agreement.bias_ml:+.3f} ({agreement.low_ml:+.3f} to {agreement.high_ml:+.3f})"
        for label, agreement in volumes.volume_ml.items()
    )
    surface_text = f"{surface.mean:.3f} ({surface.low:.3f} to {surface.high:.3f})" if surface else "-"
    return (
        f"| {name} | {dice.mean:.3f} ({dice.low:.3f} to {dice.high:.3f}) | {surface_text} | {volumes.hd95_mm:.2f} | "
        f"{volumes.assd_mm:.2f} | {bias} |"
    )


def write_set(folder: Path, cases: int) -> None:
    """Write drawn cases in the layout of the Decathlon."""
    named = ((f"hippocampus_{number:03d}", *draw_case(number)) for number in range(cases))
    write_decathlon(folder, named, {0: "background", 1: "Anterior", 2: "Posterior"})


def write_decathlon(
    folder: Path, cases: Iterable[tuple[str, np.ndarray, np.ndarray]], labels: Mapping[int, str]
) -> None:
    """Write cases of 1 mm, each a name, an image and a mask DHW, in the layout of the Decathlon."""
    entries = []
    for case, image_DHW, mask_DHW in cases:
        name = f"{case}.nii.gz"
        for part, array in (("imagesTr", image_DHW), ("labelsTr", mask_DHW)):
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(encode_nifti(array, (1.0, 1.0, 1.0), "RAS"), mtime=0))
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    about = {
        "modality": {"0": "MRI"},
        "labels": {str(value): label for value, label in labels.items()},
        "training": entries,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(about))


def draw_case(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a case: float32 of a scale of its own, and classes, DHW."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng([4, number])
    size = tuple(int(middle + rng.integers(-3, 4)) for middle in (35, 50, 35))
    down, along, across = np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in size), indexing="ij", sparse=True)
    share = along / size[1] + 0.5  # from front to back
    bend = rng.uniform(3, 7) * np.sin(np.pi * share * rng.uniform(0.8, 1.2))
    radius = rng.uniform(4.5, 6) * (1 - 0.55 * share) + 1
    body = np.hypot((down - bend + 3) / 0.85, across - rng.uniform(-2, 2) - 2 * share) < radius
    body &= (share > rng.uniform(0.12, 0.2)) & (share < rng.uniform(0.8, 0.88))
    mask_DHW = np.where(body, np.where(share < rng.uniform(0.42, 0.5), 1, 2), 0).astype(np.uint8)
    tissue = np.full(size, 0.5)
    tissue[np.broadcast_to(across > rng.uniform(9, 12), size)] = 0.72  # white matter on one side
    tissue[np.broadcast_to(down + 0.4 * across < rng.uniform(-13, -10), size)] = 0.2  # fluid below
    tissue[body] = 0.6
    image = gaussian_filter(tissue, 0.7) + rng.normal(0, 0.06, size)
    bias = 1 + 0.15 * along / size[1] * rng.uniform(-1, 1) + 0.15 * across / size[2] * rng.uniform(-1, 1)
    return (image * bias * rng.uniform(200, 300_000)).clip(0).astype(np.float32), mask_DHW


if __name__ == "__main__":
    main()
