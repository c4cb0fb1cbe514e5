"""Measures what relatives of test images in training add to the score: the same recipe with and without them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.audit import Worth
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, SPLIT_COLUMNS, SPLIT_FILE, write_table
from segops.data.relatives import Relative
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.project import Params
from segops.params.split import SplitParams
from segops.progress import say

if TYPE_CHECKING:
    import pandas as pd

_FEWEST = 8  # training images


def leak_worth(candidate: str, params: Params, dataset: Path, rows: pd.DataFrame, found: Sequence[Relative]) -> Worth:
    """Train a candidate twice and score both on the same test images.

    One training leaves out all relatives of test images, the other takes as many images from all of training, by the
    hash of their names, so that they hold relatives in the split's own share. Validation images are the same.

    Args:
        candidate: a name under `candidates`; its recipe is used as it is.
        rows: MANIFEST_COLUMNS and subset.
        found: the test images' relatives in training.

    Raises:
        UserError: no such candidate, no validation images, or too few training images without relatives.
    """
    from segops.comparison.paired import Judged, is_real, paired_interval, paired_rows
    from segops.evaluation.intervals import signed_rank

    chosen = params.candidate(candidate)
    trainings = _training_sets(rows, found)
    images = len(trainings["clean"])
    say(f"audit: trains {candidate} on {images} images without relatives of test images, then on as many with")
    tables = {}
    for name, ids in trainings.items():
        kept = rows[(rows["subset"] != "train") | rows["image_id"].isin(ids)]
        tables[name] = _scored(candidate, params, dataset, kept.reset_index(drop=True))
    pairs = paired_rows(Judged("leaky", tables["leaky"]), Judged("clean", tables["clean"]), "test")
    inflation = paired_interval(pairs, params.compare)
    related = pairs["image_id"].isin({pair.image_id for pair in found})
    level = 1 - params.compare.confidence
    test = signed_rank(pairs["change"].to_numpy(), pairs["group_id"].to_numpy(), level=level)
    return Worth(
        candidate=candidate,
        epochs=chosen.recipe.epochs,
        size_px=chosen.input.size,
        training_images=images,
        test_images=len(pairs),
        leaky_dice=round(float(pairs["dice_a"].mean()), 9),
        clean_dice=round(float(pairs["dice_b"].mean()), 9),
        inflation=inflation,
        with_relatives=paired_interval(pairs[related], params.compare) if related.any() else None,
        without_relatives=paired_interval(pairs[~related], params.compare) if not related.all() else None,
        real=is_real(inflation, test.p, test.effect, level=level),
    )


def _training_sets(rows: pd.DataFrame, found: Sequence[Relative]) -> dict[str, list[str]]:
    """Return the ids of the training images without relatives of test images, and of as many of all of them.

    Raises UserError where there is nothing to compare.
    """
    train = rows.loc[rows["subset"] == "train", "image_id"].tolist()
    related = {pair.relative_id for pair in found}
    clean = [name for name in train if name not in related]
    validation = int((rows["subset"] == "val").sum())
    if len(clean) == len(train):
        raise UserError("no training image is related to a test image: there is no leak to measure; leave out --worth")
    if len(clean) < _FEWEST or not validation:
        raise UserError(
            f"{len(clean)} of {len(train)} training images aren't related to a test image, and {validation} images are "
            f"in val; --worth needs {_FEWEST} and 1 at least"
        )
    mixed = sorted(train, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {"clean": clean, "leaky": mixed[: len(clean)]}


def _scored(candidate: str, params: Params, dataset: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Train on the rows' training images, and return per_image.csv of their validation and test images."""
    from segops.contracts.per_image import read_per_image
    from segops.data.manifest import read_manifest
    from segops.files import project_root
    from segops.stages.evaluate import evaluate
    from segops.stages.prepare import prepare
    from segops.stages.train import train
    from segops.tuning.training import remove_checkpoint

    runtime, apart = (
        params.runtime,
        params.tracking.model_copy(update={"experiment": f"{params.tracking.experiment}-audit"}),
    )
    with tempfile.TemporaryDirectory() as scratch:
        part, split, prepared, model, report = (
            Path(scratch) / name for name in ("dataset", "split", "prepared", "model", "report")
        )
        _write_part(dataset, rows, part, split)
        prepare(dataset=part, split=split, prepared=prepared)
        trained = train(candidate, params.candidate(candidate), runtime, apart, prepared=prepared, model=model)
        evaluate(params.evaluate, runtime, prepared=prepared, model=model, report=report)
        for key in trained.checkpoints:
            remove_checkpoint(project_root() / runtime.checkpoint_root / key)
        return read_per_image(report, read_manifest(part)[0].classes)


def _write_part(dataset: Path, rows: pd.DataFrame, part: Path, split: Path) -> None:
    """Write a dataset of some of the images, whose shards are the whole one's, and its split."""
    from segops.contracts.dataset import Dataset
    from segops.contracts.tables import split_assignment
    from segops.data.fingerprint import summarize
    from segops.stages.split import summarize as summarize_split

    part.mkdir()
    split.mkdir()
    for shards in {Path(file).parent for file in rows["shard"]}:
        (part / shards).symlink_to((dataset / shards).resolve(), target_is_directory=True)
    write_table(rows, part / MANIFEST_FILE, MANIFEST_COLUMNS)
    sha256 = sha256_file(part / MANIFEST_FILE)
    Dataset.load(dataset).model_copy(update={**summarize(rows), "manifest_sha256": sha256}).save(part)
    table = rows.assign(fold=[-1 if name == "test" else 0 for name in rows["subset"]])
    table = split_assignment(table[list(SPLIT_COLUMNS)], "published")
    write_table(table, split / SPLIT_FILE, SPLIT_COLUMNS)
    summarize_split(rows, table, SplitParams(protocol="published"), sha256, 0.0, None).save(split)
