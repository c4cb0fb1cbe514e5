"""From one version of an archive to the next with `ingest.base`: bytes moved, and groups that changed sides.

    python -m benchmarks.dataset_growth ARCHIVE_V1 ARCHIVE_V2 [--params benchmarks/dsb2018.yaml]

Both versions are ingested and split by the params (protocol `grouped`); v2 once with v1 as its base and once without.
Prints what changed, what `dvc push` of v2 moves to a remote that holds v1, and the groups of v1 with an image that
stands on another side in v2. Ends with status 1 when a group changed sides in spite of the base, unless new images
joined it to another group.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from segops.contracts.tables import SPLIT_COLUMNS, read_table
from segops.data.manifest import read_manifest
from segops.params.project import Params, load_params
from segops.stages.ingest import ingest
from segops.stages.split import split
from segops.stages.validate import validate

ROOT = Path(__file__).resolve().parents[1]
FRESH, GROWN = "v2 without base", "v2 with base v1"

Part = tuple[str, str]
"""An image id, and `image` or `mask`."""


def version(params: Params, archive: Path, folder: Path, base: Path | None) -> None:
    """Dataset and split of an archive below `folder`."""
    given = params.ingest.model_copy(
        update={"source": str(archive), "sha256": None, "base": base and str(base / "dataset")}
    )
    ingest(given, dataset=folder / "dataset")
    validate(params.validate_, dataset=folder / "dataset", report=folder / "report")
    grouped = params.split.model_copy(update={"protocol": "grouped"})
    split(grouped, dataset=folder / "dataset", report=folder / "report", split=folder / "split")


def hashes(dataset: Path) -> dict[Part, str]:
    """Hash of the decoded pixels by part."""
    _, manifest = read_manifest(dataset)
    return {
        (image_id, part): sha256
        for part in ("image", "mask")
        for image_id, sha256 in zip(manifest["image_id"], manifest[f"{part}_sha256"], strict=True)
    }


def member_bytes(dataset: Path) -> dict[Part, int]:
    """Encoded bytes by part, of the examples that the manifest names."""
    about, manifest = read_manifest(dataset)
    shard_of = dict(zip(manifest["image_id"], manifest["shard"], strict=True))
    sizes = {}
    for shard in about.shards:
        with tarfile.open(dataset / shard.file) as tar:
            for info in tar:
                image_id, part, _ = info.name.split(".")
                if shard_of.get(image_id) == shard.file:
                    sizes[image_id, part] = info.size
    return sizes


def written_images(before: Path, after: Path) -> set[str]:
    """Images in shards that `before` doesn't have."""
    about, _ = read_manifest(before)
    old = {shard.file for shard in about.shards}
    _, manifest = read_manifest(after)
    return set(manifest["image_id"][~manifest["shard"].isin(old)])


def pushed(folder: Path, before: Path, after: Path) -> int:
    """Bytes by which a DVC remote that holds `before` grows when `after` takes its place."""
    repo, store = folder / "repo", folder / "store"
    repo.mkdir(parents=True)
    store.mkdir()
    run(repo, ["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "remote", "add", "-q", "-d", "store", str(store)])
    shutil.copy(ROOT / ".dvcignore", repo)
    sizes = []
    for dataset in (before, after):
        shutil.rmtree(repo / "dataset", ignore_errors=True)
        shutil.copytree(dataset, repo / "dataset")
        run(repo, ["dvc", "add", "-q", "dataset"], ["dvc", "push", "-q"])
        sizes.append(sum(path.stat().st_size for path in store.rglob("*") if path.is_file()))
    return sizes[1] - sizes[0]


def run(repo: Path, *commands: list[str]) -> None:
    """Run commands in a repository."""
    for command in commands:
        subprocess.run(command, cwd=repo, check=True)


def moved(before: Path, after: Path) -> pd.DataFrame:
    """Images of both splits that stand on another side, with `group_id` as in `before`.

    By image and not by group id: the id alone decides a side, so it is a group that got another id that moves.
    """
    old, new = (read_table(folder / "split.parquet", SPLIT_COLUMNS) for folder in (before, after))
    both = old.merge(new[["image_id", "subset"]], on="image_id", suffixes=("", "_after"))
    return both[both["subset"] != both["subset_after"]]


def tell_bytes(v1: Path, grown: Path, pushes: dict[str, int]) -> None:
    """Print a line for what changed, for what had to be written with it, and for each push."""
    old, new, sizes = hashes(v1), hashes(grown), member_bytes(grown)
    changed = {part for part in new if old.get(part) != new[part]}
    total = sum(sizes[part] for part in changed)

    def line(what: str, size_bytes: int) -> None:
        print(f"{what:<56}{size_bytes:>14,} bytes" + (f"{size_bytes / total:>9.2f} x" if total else ""))

    def examples(what: str, image_ids: Iterable[str]) -> None:
        ids = set(image_ids)
        line(f"{what} ({len(ids)} images)", sum(size for (image_id, _), size in sizes.items() if image_id in ids))

    masks = sum(part == "mask" for _, part in changed)
    line(f"changed and new: {len(changed) - masks} images, {masks} masks", total)
    examples("their examples", (image_id for image_id, _ in changed))
    examples("their groups, which go to new shards", written_images(v1, grown))
    for name, size_bytes in pushes.items():
        line(f"dvc push of {name}", size_bytes)


def tell_groups(folder: Path, name: str) -> set[str]:
    """Print how many groups and images of v1 changed sides in a version of v2; returns those groups."""
    old = read_table(folder / "v1" / "split" / "split.parquet", SPLIT_COLUMNS)
    images = moved(folder / "v1" / "split", folder / name / "split")
    groups = set(images["group_id"])
    print(
        f"{name}: on another side than in v1: {len(groups)} of {old['group_id'].nunique()} groups, "
        f"{len(images)} of {len(old)} images"
    )
    return groups


def compare(params: Params, first: Path, second: Path, folder: Path) -> bool:
    """Ingest, push and print; returns whether, with the base, only groups changed sides that new images joined."""
    version(params, first, folder / "v1", None)
    version(params, second, folder / GROWN, folder / "v1")
    version(params, second, folder / FRESH, None)
    v1, grown = folder / "v1" / "dataset", folder / GROWN / "dataset"
    growth = read_manifest(grown)[0].growth
    assert growth is not None
    print(
        f"groups: {growth.groups_kept} kept, {growth.groups_changed} changed, {growth.groups_new} new, "
        f"{growth.groups_removed} removed, {len(growth.bridged_groups)} bridged; "
        f"images removed: {growth.images_removed}"
    )
    pushes = {name: pushed(folder / f"push {name}", v1, folder / name / "dataset") for name in (GROWN, FRESH)}
    tell_bytes(v1, grown, pushes)
    tell_groups(folder, FRESH)
    changed_sides = tell_groups(folder, GROWN)
    joined = {old for name, found in growth.bridged_groups.items() for old in found if old != name}
    print(f"  of these groups, joined to a larger one by new images: {len(changed_sides & joined)}")
    return changed_sides <= joined


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--params", type=Path, default=ROOT / "benchmarks" / "dsb2018.yaml")
    arguments = parser.parse_args()
    os.environ["DVC_NO_ANALYTICS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        held = compare(
            load_params(arguments.params), arguments.first.resolve(), arguments.second.resolve(), Path(folder)
        )
    if not held:
        sys.exit("a group changed sides although v1 is the base")


if __name__ == "__main__":
    main()
