"""What the gate believes: files that are those that were registered, and that tell one story."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion

from segops.contracts.evaluation import Evaluation
from segops.contracts.per_image import read_per_image
from segops.contracts.scores import SubsetScores
from segops.errors import UserError
from segops.files import sha256_file
from segops.tracking.evidence import file_hashes, read_evidence, refuse_contradiction, refuse_other_files
from tests.support.judged_candidates import folders, write_candidate

CLASSES = ("background", "disc", "ring")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """metrics.json and per_image.csv of a candidate of two foreground classes; tests read it alone."""
    root = tmp_path_factory.mktemp("candidate")
    write_candidate(root, "net", val=(0.6, 0.8), test=(0.5, 0.7, 0.6), classes=CLASSES)
    return folders(root).reports / "net"


def version_of(folder: Path, **tags: str) -> ModelVersion:
    hashes = {"weights_sha256": Evaluation.load(folder).weights_sha256, **file_hashes(folder)}
    tags = {**hashes, "candidate": "net", **tags}
    held = ModelVersion("nuclei", "7", creation_timestamp=0)
    for name, value in tags.items():
        held.tags[name] = value
    return held


def read(folder: Path) -> tuple[Evaluation, pd.DataFrame]:
    return Evaluation.load(folder), read_per_image(folder, CLASSES)


def complaint(evaluation: Evaluation, table: pd.DataFrame) -> str:
    with pytest.raises(UserError) as error:
        refuse_contradiction(evaluation, table, "net 7")
    said = str(error.value)
    start, end = "net 7: per_image.csv and metrics.json contradict each other: ", "; run evaluate and register again"
    assert said.startswith(start)
    return said.removeprefix(start).partition(end)[0]


def test_files_as_they_were_registered_are_evidence(reported: Path) -> None:
    version = version_of(reported)
    found = read_evidence(version, reported, None)
    evaluation, table = read(reported)
    assert (found.version, found.evaluation, found.noise) == (7, evaluation, None)
    pd.testing.assert_frame_equal(found.per_image, table)
    assert found.hashes == {
        "metrics_sha256": sha256_file(reported / "metrics.json"),
        "per_image_sha256": sha256_file(reported / "per_image.csv"),
    }


@pytest.mark.parametrize(
    ("tag", "file", "what"),
    [
        ("metrics_sha256", "metrics.json", "another metrics.json"),
        ("per_image_sha256", "per_image.csv", "another per_image.csv"),
        ("weights_sha256", "weights.safetensors", "other weights"),
    ],
)
def test_a_file_that_is_not_the_registered_one_is_named(
    reported: Path, tmp_path: Path, tag: str, file: str, what: str
) -> None:
    (tmp_path / file).write_text("changed")
    with pytest.raises(UserError, match=f"'nuclei' version 7 holds {what} than it was registered with .* 'net' again"):
        refuse_other_files(version_of(reported), tmp_path)
    same = sha256_file(tmp_path / file)
    assert refuse_other_files(version_of(reported, **{tag: same}), tmp_path) == {tag: same}


def test_what_a_version_has_no_hash_of_is_not_judged(reported: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    assert list(refuse_other_files(version_of(reported), tmp_path)) == ["model_sha256"]


def test_scores_of_other_weights_are_refused(reported: Path) -> None:
    with pytest.raises(
        UserError, match=r"version 7: metrics\.json is of other weights \(.{12}\) than the version \(0{12}\)"
    ):
        read_evidence(version_of(reported, weights_sha256="0" * 64), reported, None)


def _subset(evaluation: Evaluation, **changed: Any) -> Evaluation:
    return evaluation.model_copy(update={"test": evaluation.test.model_copy(update=changed)})


def _mean(scores: SubsetScores, name: str, by: float) -> dict[str, Any]:
    interval = getattr(scores, name)
    ends = {} if interval.low is None else {"low": 0.0, "high": 1.0}
    return {name: interval.model_copy(update={"mean": interval.mean + by, **ends})}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda test: {"images": 4}, "test number of images is 3 by the rows and 4 as told"),
        (lambda test: {"groups": 2}, "test number of groups is 3 by the rows and 2 as told"),
        (lambda test: {"images_with_foreground": 2}, "test images with foreground is 3 by the rows and 2 as told"),
        (lambda test: {"false_positive_share": 0.0}, "test share of false positives is nan by the rows and 0 as told"),
        (lambda test: _mean(test, "dice", 0.1), "test mean dice is 0.6 by the rows and 0.7 as told"),
        (lambda test: _mean(test, "precision", -0.1), "test mean precision is 0.6 by the rows and 0.5 as told"),
        (lambda test: _mean(test, "recall", 0.2), "test mean recall is 0.6 by the rows and 0.8 as told"),
        (lambda test: _mean(test, "accuracy", -0.3), "test mean accuracy is 0.9 by the rows and 0.6 as told"),
        (
            lambda test: {"by_class": {**test.by_class, "ring": test.by_class["disc"]}},
            "test mean Dice of ring is 0.5 by the rows and 0.7 as told",
        ),
        (
            lambda test: {
                "by_class": {**test.by_class, "ring": test.by_class["ring"].model_copy(update={"dice": None})}
            },
            "test mean Dice of ring is 0.5 by the rows and nan as told",
        ),
    ],
)
def test_a_figure_that_the_rows_do_not_give_is_named(
    reported: Path, changed: Callable[[SubsetScores], dict[str, Any]], said: str
) -> None:
    evaluation, table = read(reported)
    refuse_contradiction(evaluation, table, "as evaluate wrote them")
    assert complaint(_subset(evaluation, **changed(evaluation.test)), table) == said


def test_a_row_twice_or_moved_to_another_subset_is_named(reported: Path) -> None:
    evaluation, table = read(reported)
    doubled = pd.concat([table, table[table["image_id"] == "test00"]])
    assert complaint(evaluation, doubled) == "test number of rows is 4 by the rows and 3 as told"
    moved = table.assign(subset=table["subset"].where(table["image_id"] != "test00", "val"))
    assert complaint(evaluation, moved) == "val number of images is 3 by the rows and 2 as told"


def test_false_positives_and_undefined_means_are_compared_too(reported: Path) -> None:
    """One of two images without foreground in which something was predicted is a half."""
    evaluation, table = read(reported)
    table.loc[table["image_id"].isin(["test01", "test02"]), ["true_positive", "false_negative"]] = 0
    table.loc[table["image_id"] == "test02", "false_positive"] = 0
    told = _subset(evaluation, images_with_foreground=1)
    assert complaint(told, table) == "test share of false positives is 0.5 by the rows and nan as told"
    refuse_contradiction(_subset(evaluation, images_with_foreground=1, false_positive_share=0.5), table, "so told")


@pytest.mark.parametrize(("told", "same"), [(2e-6, True), (3e-6, False)])
def test_the_six_decimals_of_the_table_allow_two_millionths(reported: Path, told: float, same: bool) -> None:
    evaluation, table = read(reported)
    table.loc[table["subset"] == "test", "accuracy"] = 0.0
    evaluation = _subset(evaluation, accuracy=evaluation.test.accuracy.model_copy(update={"mean": told}))
    if same:
        refuse_contradiction(evaluation, table, "so told")
    else:
        assert complaint(evaluation, table) == "test mean accuracy is 0 by the rows and 3e-06 as told"


def test_evidence_that_contradicts_itself_is_refused_though_its_hashes_are_right(
    reported: Path, tmp_path: Path
) -> None:
    evaluation, table = read(reported)
    evaluation.save(tmp_path)
    table.assign(dice=0.99).to_csv(tmp_path / "per_image.csv", index=False)
    with pytest.raises(UserError, match=r"'nuclei' version 7: .* contradict each other: val mean dice is 0\.99"):
        read_evidence(version_of(tmp_path), tmp_path, None)
