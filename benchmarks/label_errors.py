"""How well suspects finds spoilt masks, and what mending them gives back: `python -m benchmarks.label_errors FOLDER`.

Masks outside test are spoilt on purpose, by turns: shifted, half of the objects erased, neighbours merged, two swapped.
A candidate is trained with folds on them, `segops suspects` ranks the images, the first tenth of the list gets its true
masks back, and the candidate is trained again. Test masks stay true.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segops.commands.suspects import suspects
from segops.contracts.suspects import SUSPECT_IMAGES_FILE
from segops.contracts.tables import INDEX_COLUMNS, MANIFEST_FILE, write_table
from segops.data.arrays import INDEX, PreparedData
from segops.data.flat_files import MASKS
from segops.evaluation.metrics import image_dice
from segops.files import sha256_file
from segops.inference.predict import Predictor
from segops.params.candidate import CandidateParams
from segops.params.ingest import IngestParams
from segops.params.runtime import RuntimeParams
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.stages.train import train
from segops.stages.validate import validate
from tests.support.tiny_prepared import name_pixels_anew

KINDS = ("shifted", "erased", "merged", "swapped")
Mask = np.ndarray[Any, np.dtype[np.uint8]]


def shifted(mask_HW: Mask, rng: np.random.Generator) -> Mask:
    """Move the mask by 8 px in each direction."""
    return np.roll(mask_HW, tuple(8 * rng.choice([-1, 1], 2)), axis=(0, 1))


def erased(mask_HW: Mask, rng: np.random.Generator) -> Mask:
    """Remove half of the objects."""
    from scipy.ndimage import label

    numbers_HW, count = label(mask_HW)
    gone = rng.permutation(np.arange(1, count + 1))[: -(-count // 2)]
    return np.where(np.isin(numbers_HW, gone), 0, mask_HW).astype(np.uint8)


def merged(mask_HW: Mask, _rng: np.random.Generator) -> Mask:
    """Join objects that lie within 12 px of one another, with the ground between them."""
    from scipy.ndimage import binary_closing
    from skimage.morphology import disk

    padded = np.pad(mask_HW > 0, 8)
    return np.asarray(binary_closing(padded, disk(6))[8:-8, 8:-8], np.uint8)


SPOIL: dict[str, Callable[[Mask, np.random.Generator], Mask]] = {
    "shifted": shifted,
    "erased": erased,
    "merged": merged,
}


def spoilt(data: PreparedData, share: float, rng: np.random.Generator) -> dict[int, tuple[str, Mask]]:
    """Choose and spoil masks outside test: kind and new mask by row; swapped ones are two by two."""
    rows = rng.permutation(sorted(data.rows("train") + data.rows("val"))).tolist()
    kinds: Iterator[str] = cycle(KINDS)
    wanted = round(share * len(rows))
    found: dict[int, tuple[str, Mask]] = {}
    while len(found) < wanted:
        kind, row = next(kinds), rows.pop()
        if kind == "swapped":
            other = rows.pop()
            found |= {row: (kind, data.mask(other).copy()), other: (kind, data.mask(row).copy())}
        elif (spoilt_HW := SPOIL[kind](data.mask(row), rng)).tobytes() != data.mask(row).tobytes():
            found[row] = (kind, spoilt_HW)
        else:  # a lone object can't be merged: the same in the next image
            kinds = chain([kind], kinds)
    return found


def with_masks(prepared: Path, target: Path, masks: dict[int, Mask]) -> Path:
    """Copy prepared data with other masks of some rows, without object maps, which would give the true ones away."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(prepared, target)
    data = PreparedData.open(prepared)
    content = bytearray((prepared / MASKS).read_bytes())
    for row, mask_HW in masks.items():
        begin = int(data.index["mask_offset"].iloc[row])
        content[begin : begin + mask_HW.size] = np.ascontiguousarray(mask_HW, np.uint8).tobytes()
    (target / MASKS).write_bytes(content)
    write_table(data.index.assign(instances=-1, objects_offset=-1, objects_sha256=""), target / INDEX, INDEX_COLUMNS)
    hashes = {"index_sha256": sha256_file(target / INDEX), "objects_sha256": None}
    data.meta.model_copy(update=hashes).save(target)
    name_pixels_anew(target)
    return target


def test_dice(model: Path, data: PreparedData) -> float:
    """Measure the mean Dice of the true test masks."""
    predictor = Predictor.load(model)
    dices = [
        image_dice(data.mask(row), predictor.mask(data.image(row)), len(data.meta.classes)) for row in data.rows("test")
    ]
    return float(np.nanmean(dices))


def main() -> None:
    """Print a row per repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--size", type=int, default=96)
    given = parser.parse_args()
    root = given.folder
    dataset, report, sides, prepared = (root / name for name in ("dataset", "validation", "split", "prepared"))
    source = f"synthetic://nuclei?n={given.images}&size={given.size}&seed=7&tiles=2"
    ingest(IngestParams(source=source, name="nuclei"), dataset=dataset, faults=root / "faults.csv")
    validate(ValidateParams(), dataset=dataset, report=report)
    split(SplitParams(fractions=(0.6, 0.2, 0.2), folds=3, seed=36), dataset=dataset, report=report, split=sides)
    prepare(dataset=dataset, split=sides, prepared=prepared)
    data, runtime = PreparedData.open(prepared), RuntimeParams(threads=1, device="cpu")
    params = CandidateParams.model_validate(
        {
            "model": {"architecture": "unet", "base_filters": 8, "depth": 3, "batch_norm": True},
            "input": {"size": given.size, "channels": 3},
            "recipe": {
                "epochs": given.epochs,
                "batch_size": 8,
                "learning_rate": 0.004,
                "loss": {"name": "bce_dice", "bce_weight": 1.0, "dice_weight": 0.5},
                "schedule": {"name": "one_cycle"},
                "ema_decay": 0.95,
                "augment": {"flip": True, "rot90": True, "brightness": 0.1, "contrast": 0.1},
            },
        }
    )

    def trained(name: str, folder: Path, cross_validation: str = "none") -> float:
        chosen = params.model_copy(update={"cross_validation": cross_validation})
        train(name, chosen, runtime, TrackingParams(), prepared=folder, model=root / name)
        return test_dice(root / name, data)

    clean = trained("clean", prepared)
    names = pd.read_parquet(prepared / "index.parquet")["image_id"].tolist()
    print(f"{MANIFEST_FILE}: {len(names)} images; clean test Dice {clean:.4f}")
    for seed in range(given.seeds):
        wrong = spoilt(data, given.share, np.random.default_rng(seed))
        folder = with_masks(prepared, root / f"spoilt{seed}", {row: mask for row, (_, mask) in wrong.items()})
        before = trained(f"spoilt_{seed}", folder, "scores")
        suspects(runtime, dataset=dataset, prepared=folder, model=root / f"spoilt_{seed}", report=root / f"list{seed}")
        order = pd.read_csv(root / f"list{seed}" / SUSPECT_IMAGES_FILE, dtype={"image_id": str})
        place = {names.index(image_id): number for number, image_id in enumerate(order["image_id"], start=1)}
        tenth = -(-len(order) // 10)
        hits = {row for row in wrong if place[row] <= tenth}
        by_kind = {kind: sorted(place[row] for row in wrong if wrong[row][0] == kind) for kind in KINDS}
        kept = {row: mask for row, (_, mask) in wrong.items() if row not in hits}
        after = trained(f"mended_{seed}", with_masks(prepared, root / f"mended{seed}", kept))
        print(
            f"seed {seed}: {len(wrong)} of {len(order)} spoilt, in the first {tenth}: {len(hits) / len(wrong):.2f}; "
            f"test Dice spoilt {before:.4f}, mended {after:.4f}, clean {clean:.4f}; places {by_kind}"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
