"""Small inputs for tests: folders and archives of images, and what the real stages make of them."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segops.contracts.base import SUBSETS
from segops.contracts.dataset import Dataset
from segops.contracts.split import Split, SubsetSummary
from segops.contracts.tables import MANIFEST_COLUMNS, SPLIT_COLUMNS, read_table, split_assignment, write_table
from segops.data.images import encode_array
from segops.data.manifest import subset_sha256
from segops.files import sha256_lines
from segops.params.ingest import IngestParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare


def write_image(path: Path, array: np.ndarray) -> Path:
    """Write an array as PNG."""
    suffix, content = encode_array(array)
    assert suffix == "png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def make_pairs(folder: Path, n: int = 3, size: int = 32, seed: int = 0) -> Path:
    """`images/<i>.png` (noise on a bright square) and `masks/<i>.png` (255 in the square), each different."""
    rng = np.random.default_rng(seed)
    for i in range(n):
        mask_HW = np.zeros((size, size), np.uint8)
        top, left = rng.integers(0, size // 2, 2)
        mask_HW[top : top + size // 2, left : left + size // 2] = 255
        image_HWC = np.minimum(mask_HW // 2 + rng.integers(0, 40, (size, size), np.uint8), 255)[..., None]
        write_image(folder / "images" / f"{i:03d}.png", image_HWC)
        write_image(folder / "masks" / f"{i:03d}.png", mask_HW)
    return folder


def make_cells(folder: Path, n: int = 12, size: int = 48, seed: int = 0) -> Path:
    """`images/<i>.png`, bright discs in grey rings on noise; `masks/<i>.png`, 255 in discs and 128 in rings."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:size, :size]
    for i in range(n):
        row, column = rng.integers(size // 3, size - size // 3, 2)
        outer = rng.integers(size // 5, size // 3)
        distance = np.hypot(y - row, x - column)
        mask_HW = np.where(distance <= outer / 2, 255, np.where(distance <= outer, 128, 0)).astype(np.uint8)
        write_image(folder / "masks" / f"{i:03d}.png", mask_HW)
        noise_HW = rng.integers(0, 30, (size, size), np.uint8)
        write_image(folder / "images" / f"{i:03d}.png", (mask_HW // 5 * 4 + noise_HW)[..., None])
    return folder


def zip_folder(folder: Path, path: Path) -> Path:
    """Pack a folder's files into a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files(folder):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def tar_folder(folder: Path, path: Path) -> Path:
    """Pack a folder's files into a tar; gzipped if the name says so."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for file in _files(folder):
            archive.add(file, file.relative_to(folder).as_posix())
    return path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def ingest_params(source: Path | str, **changes: Any) -> IngestParams:
    """IngestParams for a source; other params as in params.ingest unless changed."""
    return IngestParams.model_validate({"source": str(source), "name": "tiny", **changes})


def tiny_dataset(folder: Path, n: int = 24, size: int = 32, seed: int = 0) -> Path:
    """Ingest `synthetic://nuclei` into `folder/dataset`; return that folder."""
    params = ingest_params(f"synthetic://nuclei?n={n}&size={size}&seed={seed}")
    ingest(params, dataset=folder / "dataset")
    return folder / "dataset"


def tiny_split(dataset: Path, split: Path) -> Path:
    """Deal a dataset's groups out to train, train, val and test in turn; write split.parquet and split.json."""
    manifest = read_table(dataset / "manifest.parquet", MANIFEST_COLUMNS)
    groups = {group: number for number, group in enumerate(sorted(manifest["group_id"].unique()))}
    subsets = manifest["group_id"].map(lambda group: ("train", "val", "test", "train")[groups[group] % 4])
    folds = [
        -1 if side == "test" else groups[group] % 2 for side, group in zip(subsets, manifest["group_id"], strict=True)
    ]
    table = pd.DataFrame(
        {"image_id": manifest["image_id"], "group_id": manifest["group_id"], "subset": subsets, "fold": folds}
    )
    split.mkdir(parents=True)
    write_table(split_assignment(table, "grouped"), split / "split.parquet", SPLIT_COLUMNS)
    Split(
        protocol="grouped",
        seed=0,
        folds=2,
        manifest_sha256=Dataset.load(dataset).manifest_sha256,
        assignment_sha256=sha256_lines(" ".join(map(str, row)) for row in table.itertuples(index=False)),
        subsets={name: _summary(manifest[subsets == name]) for name in SUBSETS},
        groups_on_two_sides=0,
        images_sharing_a_group_with_train={"val": 0, "test": 0},
        imbalance=0.0,
    ).save(split)
    return split


def _summary(rows: pd.DataFrame) -> SubsetSummary:
    return SubsetSummary(
        images=len(rows),
        groups=rows["group_id"].nunique(),
        modalities=rows["modality"].value_counts().to_dict(),
        mean_foreground=float(rows["foreground_fraction"].mean()),
        sha256=subset_sha256(rows),
    )


def tiny_prepared(folder: Path, n: int = 24, size: int = 32, seed: int = 0) -> Path:
    """Dataset, split and prepared arrays of `synthetic://nuclei` under `folder`; return the prepared folder."""
    dataset = tiny_dataset(folder, n, size, seed)
    split = tiny_split(dataset, folder / "split")
    prepare(dataset=dataset, split=split, prepared=folder / "prepared")
    return folder / "prepared"
