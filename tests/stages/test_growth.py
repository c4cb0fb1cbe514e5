"""A dataset that grows out of an earlier one moves only what is new."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from segops.contracts.base import SUBSETS
from segops.contracts.dataset import Dataset, Growth
from segops.data.assignment import by_fold, grouped, subset_of_group
from segops.data.growth import Base, inherit_groups, joined_groups
from segops.data.manifest import read_manifest, read_split
from segops.data.shards import read_shards
from segops.errors import UserError
from segops.params.split import SplitParams
from segops.stages.ingest import ingest
from segops.stages.split import split
from tests.stages.test_split import write_dataset, write_report
from tests.stages.test_validate import good_manifest
from tests.support.factories import ingest_params, make_pairs, write_image


def grow(raw: Path, version: Path, base: Path | None = None, **changes: Any) -> Dataset:
    """Ingest pairs, with each shard as large as one group."""
    given: dict[str, Any] = {"base": base and str(base), **changes}
    return ingest(ingest_params(raw, **given), dataset=version)


def growth_of(dataset: Dataset) -> Growth:
    assert dataset.growth is not None
    return dataset.growth


def live(version: Path) -> dict[str, tuple[bytes, bytes]]:
    return {image_id: (image.tobytes(), mask.tobytes()) for image_id, image, mask in read_shards(version)}


def shards(version: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (version / "shards").iterdir()}


def square(raw: Path, image_id: str, grey: int) -> None:
    """A pair whose image and mask depend on `grey`."""
    mask_HW = np.zeros((16, 16), np.uint8)
    mask_HW[: 2 + grey % 12, :8] = 255
    write_image(raw / "images" / f"{image_id}.png", np.full((16, 16, 1), grey, np.uint8))
    write_image(raw / "masks" / f"{image_id}.png", mask_HW)


def remove(raw: Path, image_id: str) -> None:
    for kind in ("images", "masks"):
        (raw / kind / f"{image_id}.png").unlink()


def test_the_same_data_is_the_same_version(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw")
    one = grow(raw, tmp_path / "v1")
    same = grow(raw, tmp_path / "v2", tmp_path / "v1")
    assert same.manifest_sha256 == one.manifest_sha256
    assert shards(tmp_path / "v2") == shards(tmp_path / "v1")
    assert same.model_copy(update={"growth": None}) == one
    growth = growth_of(same)
    assert (growth.groups_kept, growth.images_written, growth.bytes_written) == (3, 0, 0)
    assert growth.bytes_kept == sum(map(len, shards(tmp_path / "v1").values()))
    again = grow(raw, tmp_path / "v3", tmp_path / "v1")
    assert again == same


def test_new_changed_and_removed_groups_leave_old_shards_as_they_are(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw", n=4)
    grow(raw, tmp_path / "v1")
    square(raw, "001", 9)
    square(raw, "new", 4)
    remove(raw, "003")
    dataset = grow(raw, tmp_path / "v2", tmp_path / "v1")
    before, after = shards(tmp_path / "v1"), shards(tmp_path / "v2")
    assert list(before) == ["shard-00000.tar"]
    assert sorted(after) == ["shard-00000.tar", "shard-00001.tar"]
    assert after["shard-00000.tar"] == before["shard-00000.tar"]
    assert growth_of(dataset).model_dump(exclude={"base_manifest_sha256"}) == {
        "groups_kept": 2,
        "groups_changed": 1,
        "groups_new": 1,
        "groups_removed": 1,
        "images_kept": 2,
        "images_written": 2,
        "images_removed": 1,
        "bytes_kept": len(before["shard-00000.tar"]),
        "bytes_written": len(after["shard-00001.tar"]),
        "bridged_groups": {},
    }
    _, manifest = read_manifest(tmp_path / "v2")
    assert dict(zip(manifest["image_id"], manifest["shard"].str[-9:-4], strict=True)) == {
        "000": "00000",
        "001": "00001",
        "002": "00000",
        "new": "00001",
    }
    grow(raw, tmp_path / "whole")
    assert live(tmp_path / "v2") == live(tmp_path / "whole")
    assert len(list(read_shards(tmp_path / "v2"))) == 4, "the changed image's old pixels are dead"


def test_a_shard_without_a_living_group_goes_and_its_number_is_not_used_again(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for image_id, grey in (("a", 1), ("b", 2)):
        square(raw, image_id, grey)
    grow(raw, tmp_path / "v1")
    square(raw, "c", 3)
    grow(raw, tmp_path / "v2", tmp_path / "v1")
    remove(raw, "c")
    square(raw, "d", 4)
    dataset = grow(raw, tmp_path / "v3", tmp_path / "v2")
    assert [shard.file[-9:-4] for shard in dataset.shards] == ["00000", "00002"]


EDITS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 6)), max_size=6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=EDITS, second=EDITS)
def test_whatever_changes_the_living_examples_are_those_of_a_fresh_version(
    first: list[tuple[str, int]], second: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Grey 0 removes a pair; a later edit of the same pair wins."""
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    raw, previous = tmp_path / "raw", None
    square(raw, "always", 200)
    for number, edits in enumerate((first, second)):
        for image_id, grey in edits:
            if grey:
                square(raw, image_id, grey)
            elif (raw / "images" / f"{image_id}.png").exists():
                remove(raw, image_id)
        version, fresh = tmp_path / f"v{number}", tmp_path / f"fresh{number}"
        made = grow(raw, version, previous)
        grow(raw, fresh)
        assert live(version) == live(fresh)
        if previous is not None and growth_of(made).groups_kept:
            assert shards(previous).items() & shards(version).items()
        previous = version


def test_old_images_keep_their_groups_name_when_a_field_grows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    field_HW = gaussian_filter(rng.random((64, 192)), 2)
    field_HW = ((field_HW - field_HW.min()) / np.ptp(field_HW) * 250).astype(np.uint8)
    raw = tmp_path / "raw"

    def tile(image_id: str, left: int) -> None:
        write_image(raw / "images" / f"{image_id}.png", field_HW[:, left : left + 64, None])
        write_image(raw / "masks" / f"{image_id}.png", (field_HW[:, left : left + 64] > 125).astype(np.uint8) * 255)

    def groups(version: Path) -> dict[str, str]:
        _, manifest = read_manifest(version)
        return dict(zip(manifest["image_id"], manifest["group_id"], strict=True))

    tile("m", 64)
    tile("n", 128)
    grow(raw, tmp_path / "v1", group_by="fields")
    assert groups(tmp_path / "v1") == {"m": "m", "n": "m"}
    tile("a", 0)
    dataset = grow(raw, tmp_path / "v2", tmp_path / "v1", group_by="fields")
    assert groups(tmp_path / "v2") == {"a": "m", "m": "m", "n": "m"}
    assert (growth_of(dataset).groups_changed, growth_of(dataset).groups_new) == (1, 0)
    grow(raw, tmp_path / "fresh", group_by="fields")
    assert groups(tmp_path / "fresh") == {"a": "a", "m": "a", "n": "a"}, "what it would be without a base"


@pytest.mark.parametrize(
    ("now", "base", "expected", "bridged"),
    [
        ({"a": "a", "b": "a", "c": "c"}, {"b": "b"}, {"a": "b", "b": "b", "c": "c"}, {}),
        ({"a": "a", "b": "b"}, {"a": "x", "b": "x", "gone": "x"}, {"a": "x", "b": "x"}, {}),
        (
            {"a": "a", "b": "a", "c": "a", "new": "a"},
            {"a": "a", "b": "b", "c": "b"},
            dict.fromkeys(("a", "b", "c", "new"), "b"),
            {"b": ["a", "b"]},
        ),
        ({"a": "a", "b": "a"}, {"a": "p", "b": "o"}, {"a": "o", "b": "o"}, {"o": ["o", "p"]}),
        ({"a": "a"}, {}, {"a": "a"}, {}),
    ],
    ids=["inherits", "stays-together", "bridged-larger-wins", "bridged-first-wins", "all-new"],
)
def test_groups_inherit_names(
    now: dict[str, str], base: dict[str, str], expected: dict[str, str], bridged: dict[str, list[str]]
) -> None:
    assert inherit_groups(now, base) == (expected, bridged)


def field_groups(images: list[int], edges: list[tuple[int, int]]) -> dict[int, str]:
    """Groups of images that edges join, named by their first image, as they are found in fields."""
    name = {image: image for image in images}
    for left, right in edges:
        if left in name and right in name:
            joined = {name[left], name[right]}
            name = {image: min(joined) if one in joined else one for image, one in name.items()}
    return {image: f"g{one}" for image, one in name.items()}


EDGES = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), EDGES, st.sets(st.integers(0, 15), max_size=3)), min_size=2, max_size=5
    ),
    val_fold=st.sampled_from([None, 0, 2]),
    seed=st.integers(0, 3),
)
def test_growth_never_moves_an_image_nearer_to_training(
    steps: list[tuple[int, list[tuple[int, int]], set[int]]], val_fold: int | None, seed: int
) -> None:
    """New images join groups, some images go for good, some files get another name."""
    fractions, images, base = (0.4, 0.3, 0.3), 8, None
    edges: list[tuple[int, int]] = []
    gone: set[int] = set()
    renamed: set[int] = set()
    stood: dict[str, int] = {}
    for more, new_edges, changes in steps:
        images, edges = min(16, images + more), [*edges, *new_edges]
        gone = gone | {at for at in changes if at % 3 == 0}
        renamed = renamed | {at for at in changes if at % 3 == 1}
        living = [at for at in range(images) if at not in gone]
        groups = {f"i{at}{'x' * (at in renamed)}": name for at, name in field_groups(living, edges).items()}
        rows = [{"image_id": one, "image_sha256": one.rstrip("x")} for one in groups]
        joined: dict[str, list[str]] = {}
        if base is not None:
            groups, _ = inherit_groups(groups, base.groups)
            joined = joined_groups(rows, groups, base)
        manifest = pd.DataFrame(rows).assign(group_id=[groups[row["image_id"]] for row in rows])
        table = grouped(manifest, seed, fractions, 5, joined=joined, val_fold=val_fold)
        table = by_fold(table, val_fold) if val_fold is not None else table
        now = {
            one.rstrip("x"): SUBSETS.index(side) for one, side in zip(table["image_id"], table["subset"], strict=True)
        }
        nearer = {one for one, side in now.items() if side < stood.get(one, side)}
        assert not nearer
        stood = stood | now
        about = cast(Dataset, SimpleNamespace(joined_groups=joined))
        base = Base(Path(), about, manifest)


def test_split_says_which_group_stands_elsewhere_than_its_images_stood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = SplitParams(fractions=(0.4, 0.3, 0.3))
    of = {
        name: next(f"g{i}" for i in range(99) if subset_of_group(f"g{i}", 0, params.fractions) == name)
        for name in SUBSETS
    }
    manifest = good_manifest(40)
    manifest.loc[:3, "group_id"] = of["train"]
    dataset = write_dataset(tmp_path / "dataset", manifest)
    joined = {of["train"]: [of["test"], of["val"]]}
    Dataset.load(dataset).model_copy(update={"joined_groups": joined}).save(dataset)
    report = write_report(tmp_path / "report", dataset)
    split(params, dataset=dataset, report=report, split=tmp_path / "split")
    _, table = read_split(tmp_path / "split")
    assert set(table["subset"][table["group_id"] == of["train"]]) == {"test"}
    said = capsys.readouterr().err
    assert f"group '{of['train']}' has images of '{of['train']}' (train), '{of['test']}' (test)" in said
    assert "all of it stands in test" in said


def test_a_base_that_cannot_be_one_is_refused_in_one_line(tmp_path: Path) -> None:
    raw = make_pairs(tmp_path / "raw")
    grow(raw, tmp_path / "v1")
    (tmp_path / "empty").mkdir()
    for version, base, changes, text in (
        ("v1", "v1", {}, r"ingest\.base: \S+ is the folder that ingest writes; name a kept version"),
        ("v2", "empty", {}, r"ingest\.base: \S+ holds no dataset\.json"),
        ("v2", "nowhere", {}, r"ingest\.base: \S+nowhere: no such file or folder"),
        ("v2", "v1", {"group_by": "image"}, r"ingest\.base: \S+ is grouped by layout, ingest\.group_by is image"),
    ):
        with pytest.raises(UserError, match=text):
            grow(raw, tmp_path / version, tmp_path / base, **changes)
    shard = tmp_path / "v1/shards/shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=r"shard-00000\.tar: not the shard that dataset\.json names; restore the base"):
        grow(raw, tmp_path / "v2", tmp_path / "v1")
    shard.unlink()
    with pytest.raises(UserError, match=r"shard-00000\.tar: no such file; restore the base"):
        grow(raw, tmp_path / "v2", tmp_path / "v1")
    assert not (tmp_path / "v2").exists()
