"""What the gate knows of a version, and whether its files are those that were registered and tell one story."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segops.comparison.gate import Evidence
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.contracts.noise import Noise
from segops.contracts.per_image import PER_IMAGE_FILE, class_columns
from segops.contracts.scores import mean_of
from segops.errors import UserError
from segops.evaluation.presence import false_positive_share, in_truth
from segops.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

# The tags of a version that hold the SHA-256 of its files.
HASH_TAGS = {
    "weights_sha256": WEIGHTS_FILE,
    "model_sha256": TrainedModel.FILE,
    "metrics_sha256": Evaluation.FILE,
    "per_image_sha256": PER_IMAGE_FILE,
}
_MEANS = ("dice", "iou", "precision", "recall", "accuracy")
_TOLERANCE = 2e-6  # per_image.csv has six decimals


def file_hashes(*folders: Path) -> dict[str, str]:
    """Hash a candidate's files in these folders, keyed by the tags in `HASH_TAGS`; missing files are left out."""
    return {
        tag: sha256_file(folder / name)
        for folder in folders
        for tag, name in HASH_TAGS.items()
        if (folder / name).is_file()
    }


def refuse_other_files(version: ModelVersion, folder: Path) -> dict[str, str]:
    """Return the hashes of a version's fetched files; raise UserError if they differ from those registered.

    A version of an earlier segops has fewer hashes in its tags; a file without one isn't judged.
    """
    hashes = file_hashes(folder)
    for tag, found in hashes.items():
        expected = version.tags.get(tag, found)
        if found != expected:
            file = HASH_TAGS[tag]
            what = "other weights" if file == WEIGHTS_FILE else f"another {file}"
            raise UserError(
                f"'{version.name}' version {version.version} holds {what} than it was registered with "
                f"({found[:12]} instead of {expected[:12]}): somebody changed it in the store; restore the file, or "
                f"train or evaluate '{version.tags.get('candidate')}' again and register that"
            )
    return hashes


def refuse_contradiction(evaluation: Evaluation, per_image: pd.DataFrame, where: str) -> None:
    """Raise UserError if the figures in metrics.json differ from those computed from the rows of per_image.csv.

    Args:
        where: whose files they are, for the message.
    """
    for subset, name, told, counted in _figures(evaluation, per_image):
        same = math.isnan(told) == math.isnan(counted) and not abs(told - counted) > _TOLERANCE
        if not same:
            raise UserError(
                f"{where}: {PER_IMAGE_FILE} and {Evaluation.FILE} contradict each other: {subset} {name} is "
                f"{counted:.6g} by the rows and {told:.6g} as told; run evaluate and register again (`dvc repro`)"
            )


def _figures(evaluation: Evaluation, per_image: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    """Yield subset, name, value in metrics.json and value computed from the rows, for each figure; NaN: undefined."""
    for subset, scores in evaluation.subsets.items():
        rows = per_image[per_image["subset"] == subset]
        yield subset, "number of images", scores.images, rows["image_id"].nunique()
        yield subset, "number of rows", scores.images, len(rows)
        yield subset, "number of groups", scores.groups, rows["group_id"].nunique()
        yield subset, "images with foreground", scores.images_with_foreground, int(in_truth(rows).sum())
        told, counted = scores.false_positive_share, false_positive_share(rows)
        yield subset, "share of false positives", _number(told), _number(counted)
        for name in _MEANS:
            yield subset, f"mean {name}", _number(getattr(scores, name).mean), float(rows[name].mean())
        for name, columns in class_columns(evaluation.classes).items():
            dice = _number(mean_of(scores.by_class[name].dice))
            yield subset, f"mean Dice of {name}", dice, float(rows[columns.dice].mean())


def _number(value: float | None) -> float:
    """Return the value, or NaN if it is None."""
    return math.nan if value is None else value


def read_evidence(version: ModelVersion, folder: Path, noise: Noise | None) -> Evidence:
    """Read the evidence in a folder of fetched files. Raises UserError where it isn't what was registered."""
    from segops.contracts.per_image import read_per_image

    hashes = refuse_other_files(version, folder)
    evaluation = Evaluation.load(folder)
    table = read_per_image(folder, evaluation.classes)
    refuse_contradiction(evaluation, table, f"'{version.name}' version {version.version}")
    weights = version.tags.get("weights_sha256", evaluation.weights_sha256)
    if evaluation.weights_sha256 != weights:
        raise UserError(
            f"'{version.name}' version {version.version}: {Evaluation.FILE} is of other weights "
            f"({evaluation.weights_sha256[:12]}) than the version ({weights[:12]}); register the candidate again"
        )
    return Evidence(int(version.version), evaluation, table, noise, hashes)
