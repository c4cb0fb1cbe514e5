"""From one version of an archive to the next with `ingest.base`: bytes moved, and groups that changed sides.

    python -m benchmarks.dataset_growth ARCHIVE_V1 ARCHIVE_V2 [--params benchmarks/dsb2018.yaml]

Both versions are ingested and split by the params (protocol `grouped`); v2 once with v1 as its base and once without.
Each dataset is pushed to a DVC remote in turn, whose growth is what a push moves. Prints the bytes beside those of the
images and masks that changed, and the groups of v1 that stand on another side in v2.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pandas as pd

from segops.data.manifest import read_manifest
from segops.data.shards import read_example
from segops.params import Params, load_params
from segops.stages.ingest import ingest
from segops.stages.split import split
from segops.stages.validate import validate
from segops.tables import SPLIT_COLUMNS, read_table


def version(params: Params, archive: Path, folder: Path, base: Path | None) -> None:
    """Dataset and split of an archive below `folder`."""
    given = params.ingest.model_copy(
        update={"source": str(archive), "sha256": None, "base": base and str(base / "dataset")}
    )
    ingest(given, dataset=folder / "dataset")
    validate(params.validate_, dataset=folder / "dataset", report=folder / "report")
    grouped = params.split.model_copy(update={"protocol": "grouped"})
    split(grouped, dataset=folder / "dataset", report=folder / "report", split=folder / "split")


def sides(folder: Path) -> pd.Series:
    """Subset by group."""
    table = read_table(folder / "split" / "split.parquet", SPLIT_COLUMNS)
    return table.drop_duplicates("group_id").set_index("group_id")["subset"]


def changed_bytes(before: Path, after: Path) -> int:
    """Encoded bytes of the examples of `after` that `before` doesn't hold with the same pixels."""
    from segops.data.images import encode_array

    columns = ["image_id", "image_sha256", "mask_sha256"]
    old = set(read_manifest(before)[1][columns].itertuples(index=False, name=None))
    total = 0
    for row in read_manifest(after)[1].to_dict("records"):
        if tuple(row[name] for name in columns) not in old:
            for array in read_example(after, row["shard"], row["image_id"]):
                total += len(encode_array(array)[1])
    return total


def pushed(repo: Path, store: Path, dataset: Path) -> int:
    """Push a dataset as the repository's `dataset`; returns by how many bytes the store grew."""
    before = size(store)
    shutil.rmtree(repo / "dataset", ignore_errors=True)
    shutil.copytree(dataset, repo / "dataset")
    for command in (["dvc", "add", "-q", "dataset"], ["dvc", "push", "-q"]):
        subprocess.run(command, cwd=repo, check=True)
    return size(store) - before


def size(folder: Path) -> int:
    """Bytes below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def compare(params: Params, first: Path, second: Path, folder: Path) -> None:
    """Ingest, push and print."""
    repo, store = folder / "repo", folder / "store"
    repo.mkdir()
    store.mkdir()
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "remote", "add", "-q", "-d", "s", str(store)],
    ):
        subprocess.run(command, cwd=repo, check=True)
    version(params, first, folder / "v1", None)
    version(params, second, folder / "v2", folder / "v1")
    version(params, second, folder / "fresh", None)
    new = changed_bytes(folder / "v1" / "dataset", folder / "v2" / "dataset")
    growth = read_manifest(folder / "v2" / "dataset")[0].growth
    assert growth is not None
    print(f"groups kept {growth.groups_kept}, changed {growth.groups_changed}, new {growth.groups_new}")
    print(f"images written {growth.images_written}; bytes of those that changed {new:,}")
    print(f"bridged groups {len(growth.bridged_groups)}")
    for name in ("v1", "v2", "fresh"):
        moved = pushed(repo, store, folder / name / "dataset")
        print(f"dvc push of {name:<6}{moved:>14,} bytes  {moved / new:>7.2f} x what changed")
    for name in ("v2", "fresh"):
        before, after = sides(folder / "v1"), sides(folder / name)
        both = before.index.intersection(after.index)
        moved_groups = int((before[both] != after[both]).sum())
        print(f"groups of v1 in {name}: {len(both)} of {len(before)}, on another side: {moved_groups}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--params", type=Path, default=Path("benchmarks/dsb2018.yaml"))
    arguments = parser.parse_args()
    os.environ["DVC_NO_ANALYTICS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        compare(load_params(arguments.params), arguments.first.resolve(), arguments.second.resolve(), Path(folder))


if __name__ == "__main__":
    main()
