"""The split stage: its files, its refusals, its advice."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from segops.contracts.base import SUBSETS
from segops.contracts.dataset import Dataset, Shard
from segops.contracts.split import Split
from segops.contracts.tables import MANIFEST_COLUMNS, SPLIT_COLUMNS, read_table, write_table
from segops.contracts.validation import Expectation, ValidationReport
from segops.errors import UserError
from segops.files import sha256_file, sha256_lines
from segops.params.split import SplitParams
from segops.stages.split import few_groups, split
from tests.stages.test_validate import good_manifest


def write_dataset(folder: Path, manifest: pd.DataFrame) -> Path:
    """A dataset's manifest and facts; split reads no pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(manifest, folder / "manifest.parquet", MANIFEST_COLUMNS)
    Dataset(
        name="made",
        licence="CC0-1.0",
        source="made",
        source_sha256="0" * 64,
        layout="pairs",
        group_by="layout",
        classes=["background", "nucleus"],
        class_colours=["#000000", "#e69f00"],
        images=len(manifest),
        groups=manifest["group_id"].nunique(),
        modalities={"fluorescence": len(manifest)},
        sizes={"48x64": len(manifest)},
        channels={"1": len(manifest)},
        dtypes={"uint8": len(manifest)},
        class_share={"background": 0.8, "nucleus": 0.2},
        intensity_percentiles={"p50": 0.3},
        manifest_sha256=sha256_file(folder / "manifest.parquet"),
        shards=[Shard(file="shards/0.tar", sha256="0" * 64, size_bytes=1, images=len(manifest))],
    ).save(folder)
    return folder


def write_report(folder: Path, dataset: Path, *, success: bool = True) -> Path:
    outcome = Expectation(name="heights", severity="critical", success=success, detail="expected", failing_ids=[])
    folder.mkdir(parents=True, exist_ok=True)
    ValidationReport(
        manifest_sha256=Dataset.load(dataset).manifest_sha256, images=1, success=success, expectations=[outcome]
    ).save(folder)
    return folder


def do_split(folder: Path, manifest: pd.DataFrame, params: SplitParams) -> tuple[Split, pd.DataFrame]:
    dataset = write_dataset(folder / "dataset", manifest)
    report = write_report(folder / "report", dataset)
    made = split(params, dataset=dataset, report=report, split=folder / "split")
    return made, read_table(folder / "split/split.parquet", SPLIT_COLUMNS)


def test_a_grouped_split_says_what_it_holds(tmp_path: Path) -> None:
    manifest = good_manifest(80)
    made, table = do_split(tmp_path, manifest, SplitParams())
    assert made == Split.load(tmp_path / "split")
    assert sorted(path.name for path in (tmp_path / "split").iterdir()) == [
        "dataset_card.md",
        "run.json",
        "split.html",
        "split.json",
        "split.parquet",
    ]
    assert list(table["image_id"]) == sorted(manifest["image_id"])
    assert made.groups_on_two_sides == 0
    assert made.images_sharing_a_group_with_train == {"val": 0, "test": 0}
    assert {name: made.subsets[name].images for name in SUBSETS} == table["subset"].value_counts().to_dict()
    test = manifest[(table["subset"] == "test").to_numpy()]
    lines = [f"{row.image_id} {row.image_sha256} {row.mask_sha256} {row.objects_sha256}" for row in test.itertuples()]
    assert made.test_sha256 == sha256_lines(sorted(lines))
    rows = [f"{row.image_id} {row.group_id} {row.subset} {row.fold}" for row in table.itertuples()]
    assert made.assignment_sha256 == sha256_lines(rows)


def test_the_same_input_gives_the_same_bytes_over_left_overs(tmp_path: Path) -> None:
    do_split(tmp_path, good_manifest(80), SplitParams())
    first = {name: (tmp_path / "split" / name).read_bytes() for name in ("split.json", "split.parquet")}
    (tmp_path / "split/old.txt").write_text("left over")
    do_split(tmp_path, good_manifest(80).iloc[::-1], SplitParams())  # another order of the rows
    second = {name: (tmp_path / "split" / name).read_bytes() for name in first}
    assert first["split.parquet"] == second["split.parquet"]
    assert not (tmp_path / "split/old.txt").exists()


@pytest.mark.parametrize("column", ["mask_sha256", "objects_sha256"])
def test_a_changed_mask_in_test_changes_the_test_hash_and_one_in_train_does_not(column: str, tmp_path: Path) -> None:
    manifest = good_manifest(80)
    made, table = do_split(tmp_path, manifest, SplitParams())
    for subset, same in (("train", True), ("test", False)):
        changed = manifest.copy()
        changed.loc[table.index[table["subset"] == subset][0], column] = "a" * 64
        again, _ = do_split(tmp_path, changed, SplitParams())
        assert (again.test_sha256 == made.test_sha256) is same
        assert again.assignment_sha256 == made.assignment_sha256


def test_advice_names_a_better_seed_and_taking_it_ends_the_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = do_split(tmp_path, good_manifest(80), SplitParams())
    assert made.advice is not None
    found = re.fullmatch(
        r"split\.seed: (\d+) balances the strata better \(largest gap (0\.\d\d) instead of (0\.\d\d)\); "
        r"set it before the first model is promoted, then keep it",
        made.advice,
    )
    assert found is not None
    assert f"split: {made.advice}" in capsys.readouterr().err
    better, _ = do_split(tmp_path, good_manifest(80), SplitParams(seed=int(found[1])))
    assert f"{better.imbalance:.2f}" == found[2]
    assert f"{made.imbalance:.2f}" == found[3]
    assert better.advice is None


def test_few_groups_are_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = do_split(tmp_path, good_manifest(80), SplitParams())
    groups = made.subsets["test"].groups
    assert groups < 10
    assert made.few_groups is not None
    assert f"test has {groups} group" in made.few_groups
    assert "split.fractions" in made.few_groups or "collect more groups" in made.few_groups
    assert f"split: {made.few_groups}" in capsys.readouterr().err
    assert "Few groups: " in (tmp_path / "split/dataset_card.md").read_text(encoding="utf-8")


def test_the_advice_on_few_groups_fits_their_number() -> None:
    assert few_groups({"train": 80, "val": 10, "test": 10}, 100) is None
    both = few_groups({"train": 30, "val": 9, "test": 1}, 40)
    assert both is not None
    assert both.startswith("val has 9 groups and test has 1 group: ")
    assert "give each at least 0.25 in split.fractions" in both
    hopeless = few_groups({"train": 5, "val": 12, "test": 3}, 20)
    assert hopeless is not None
    assert "20 groups in all are too few to hold out 10 twice: collect more groups, or cross-validate" in hopeless


def test_the_published_protocol_counts_what_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = good_manifest(50)
    made, table = do_split(tmp_path, manifest, SplitParams(protocol="published"))
    assert [made.subsets[name].images for name in SUBSETS] == [30, 10, 10]
    sides: dict[str, set[str]] = {}
    for row in table.itertuples():
        sides.setdefault(str(row.group_id), set()).add(str(row.subset))
    assert made.groups_on_two_sides == sum(len(one) > 1 for one in sides.values()) > 0
    for name in ("val", "test"):
        sharing = [row for row in table.itertuples() if row.subset == name and "train" in sides[str(row.group_id)]]
        assert made.images_sharing_a_group_with_train[name] == len(sharing) > 0
    assert made.advice is None
    assert f"{made.groups_on_two_sides} groups are on two sides" in capsys.readouterr().err


def test_an_empty_subset_names_a_seed_that_fills_it(tmp_path: Path) -> None:
    manifest = good_manifest(10)  # five groups
    seeds = []
    for seed in range(12):
        try:
            do_split(tmp_path, manifest, SplitParams(seed=seed))
        except UserError as error:
            found = re.fullmatch(
                r"split\.seed \d+ leaves \w+( and \w+)? empty \(5 groups\); set split\.seed: (\d+)", str(error)
            )
            assert found is not None
            seeds.append(int(found[2]))
    assert seeds
    made, _ = do_split(tmp_path, manifest, SplitParams(seed=seeds[0]))
    assert all(made.subsets[name].images for name in SUBSETS)


def test_two_groups_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"leaves .* empty \(2 groups\); add groups, or make split\.fractions more even"
    ):
        do_split(tmp_path, good_manifest(4), SplitParams())
    assert not (tmp_path / "split").exists()


def test_published_with_few_images_names_the_param(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"split\.protocol published: the published protocol needs at least 5 images, found 4; add"
    ):
        do_split(tmp_path, good_manifest(4), SplitParams(protocol="published"))


def test_a_failed_report_is_refused(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", good_manifest(20))
    report = write_report(tmp_path / "report", dataset, success=False)
    with pytest.raises(UserError, match=r"report\.json: validation failed \(heights\); mend the data, then run"):
        split(SplitParams(), dataset=dataset, report=report, split=tmp_path / "split")
    assert not (tmp_path / "split").exists()


def test_a_report_of_other_data_is_refused(tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", good_manifest(22))
    dataset = write_dataset(tmp_path / "dataset", good_manifest(20))
    report = write_report(tmp_path / "report", other)
    with pytest.raises(
        UserError, match=r"report\.json: is of another manifest than the dataset's; run `segops validate`"
    ):
        split(SplitParams(), dataset=dataset, report=report, split=tmp_path / "split")


def test_a_missing_report_names_the_file(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", good_manifest(20))
    with pytest.raises(UserError, match=r"report\.json: no such file"):
        split(SplitParams(), dataset=dataset, report=tmp_path / "nowhere", split=tmp_path / "split")


def test_a_fold_may_be_validation(tmp_path: Path) -> None:
    manifest = good_manifest(60)
    plain, before = do_split(tmp_path / "a", manifest, SplitParams(seed=3))
    made, table = do_split(tmp_path / "b", manifest, SplitParams(seed=3, fold=2))
    assert made.fold == 2
    assert made.test_sha256 == plain.test_sha256
    assert made.assignment_sha256 != plain.assignment_sha256
    assert set(table.loc[table["subset"] == "val", "fold"]) == {2}
    assert 2 not in set(table.loc[table["subset"] == "train", "fold"])
    pd.testing.assert_series_equal(table["fold"], before["fold"])


def test_a_fold_without_a_group_is_refused(tmp_path: Path) -> None:
    manifest = good_manifest(12)
    _, table = do_split(tmp_path / "a", manifest, SplitParams(seed=1, folds=20))
    empty = min(set(range(20)) - set(table["fold"]))
    with pytest.raises(UserError, match=f"split.fold {empty} leaves val empty; lower split.folds"):
        do_split(tmp_path / "b", manifest, SplitParams(seed=1, folds=20, fold=empty))


def test_the_data_s_own_subsets_are_kept_and_their_leak_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = good_manifest()
    given = ["train" if i % 4 < 2 else ("val", "test")[i % 2] for i in range(len(rows))]
    params = SplitParams(protocol="given")
    result, table = do_split(tmp_path, rows.assign(given_subset=given), params)
    assert table["subset"].tolist() == given
    assert result.protocol == "given"
    shared = result.groups_on_two_sides
    assert (f"split: {shared} groups are on two sides" in capsys.readouterr().err) == (shared > 0)
    with pytest.raises(UserError, match=r"^split.protocol given: \d+ of \d+ images have no subset"):
        do_split(tmp_path / "none", rows, params)
    with pytest.raises(UserError, match=r"^split.protocol given leaves test empty; set split.protocol: grouped"):
        do_split(tmp_path / "without", rows.assign(given_subset=["train", "val"] * (len(rows) // 2)), params)


def test_the_page_shows_the_balance_by_subset_and_is_the_same_twice(tmp_path: Path) -> None:
    manifest = good_manifest(40).assign(modality=["fluorescence"] * 30 + ["histology"] * 10)
    params = SplitParams(protocol="published")
    do_split(tmp_path, manifest, params)
    page = (tmp_path / "split/split.html").read_text()
    assert "Nothing to do" not in page
    assert "share a group with a training image" in page
    tips = set(re.findall(r"<title>([^<]+)</title>", page))
    assert {"images, train: 24 of 40", "images, val: 8 of 40", "images, test: 8 of 40"} <= tips
    histology = [tip for tip in tips if tip.startswith("histology")]
    assert sum(int(tip.split()[2]) for tip in histology) == 10
    assert "<script" not in page
    do_split(tmp_path, manifest, params)
    assert (tmp_path / "split/split.html").read_text() == page
