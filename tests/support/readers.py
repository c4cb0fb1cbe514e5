"""Every reader of a file that a project's stages wrote: what a damaged or foreign file is thrown at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Reader:
    """A file of a finished project, and the product's function that reads it.

    Attributes:
        file: its path in the project.
        read: reads the project's file; what it returns is compared by its repr.
        sealed: whether a hash elsewhere tells any change of the content.
    """

    file: str
    read: Callable[[Path], object]
    sealed: bool = False


def readers(candidate: str) -> dict[str, Reader]:
    """The readers by name, for a project whose only candidate is this one."""
    model, report = f"models/candidates/{candidate}", f"reports/candidates/{candidate}"
    return {
        "params": Reader("params.yaml", _params),
        "dataset": Reader("data/dataset/dataset.json", _manifest),
        "manifest": Reader("data/dataset/manifest.parquet", _manifest, sealed=True),
        "shard": Reader("data/dataset/shards/shard-00000.tar", _shards, sealed=True),
        "validation": Reader("reports/validation/report.json", _validation),
        "split": Reader("data/split/split.json", _split),
        "split table": Reader("data/split/split.parquet", _split, sealed=True),
        "prepared": Reader("data/prepared/prepared.json", _prepared),
        "index": Reader("data/prepared/index.parquet", _prepared, sealed=True),
        "pixels": Reader("data/prepared/images.bin", _prepared, sealed=True),
        "tuned": Reader("models/tuned/best.yaml", _tuned),
        "model": Reader(f"{model}/model.json", lambda project: _model(project / model)),
        "weights": Reader(f"{model}/weights.safetensors", lambda project: _program(project / model), sealed=True),
        "history": Reader(f"{model}/history.csv", lambda project: _history(project / model)),
        "metrics": Reader(f"{report}/metrics.json", lambda project: _evaluation(project / report)),
        "per image": Reader(f"{report}/per_image.csv", lambda project: _per_image(project / report)),
        "thumbnails": Reader(f"{report}/thumbnails.zip", lambda project: _thumbnails(project / report)),
    }


def _params(project: Path) -> object:
    from segops.params.project import load_params

    return load_params(project / "params.yaml")


def _manifest(project: Path) -> object:
    from segops.data.manifest import read_manifest

    about, table = read_manifest(project / "data/dataset")
    return about, table.to_csv()


def _shards(project: Path) -> object:
    from segops.data.shards import read_examples

    examples = read_examples(project / "data/dataset")
    return [(example.image_id, example.image_HWC.sum(), example.mask_HW.sum()) for example in examples]


def _validation(project: Path) -> object:
    from segops.contracts.validation import ValidationReport

    return ValidationReport.load(project / "reports/validation")


def _split(project: Path) -> object:
    from segops.data.manifest import read_split

    about, table = read_split(project / "data/split")
    return about, table.to_csv()


def _prepared(project: Path) -> object:
    from segops.data.arrays import PreparedData

    data = PreparedData.open(project / "data/prepared")
    data.verify_pixels()
    return data.meta, data.index.to_csv(), int(np.asarray(data.image(0)).sum())


def _tuned(project: Path) -> object:
    from segops.contracts.tuned import Tuned

    return Tuned.load(project / "models/tuned")


def _model(folder: Path) -> object:
    from segops.contracts.model import TrainedModel

    return TrainedModel.load(folder)


def _program(folder: Path) -> object:
    from segops.inference.trained import load_program

    return load_program(folder)[1]


def _history(folder: Path) -> object:
    from segops.comparison.entrants import read_history
    from segops.tracking.candidate import read_history as read_epochs

    table = read_history(folder)
    return None if table is None else table.to_csv(), read_epochs(folder, 0)


def _evaluation(folder: Path) -> object:
    from segops.contracts.evaluation import Evaluation

    return Evaluation.load(folder)


def _per_image(folder: Path) -> object:
    from segops.contracts.evaluation import Evaluation
    from segops.contracts.per_image import read_per_image

    return read_per_image(folder, Evaluation.load(folder).classes).to_csv()


def _thumbnails(folder: Path) -> object:
    from segops.pictures.thumbnails import Thumbnails

    pictures = Thumbnails(folder / "thumbnails.zip")
    return [(pictures.image(name), pictures.masks(name)) for name in sorted(pictures.image_ids)]
