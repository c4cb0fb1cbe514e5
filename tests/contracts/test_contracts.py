"""The files between stages refuse what doesn't fit, and equal rows give equal bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import segops
from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.per_image import PER_IMAGE_ADDED, PER_IMAGE_FILE, read_per_image
from segops.contracts.registration import Registration
from segops.contracts.split import Split, SubsetSummary
from segops.contracts.tables import SPLIT_COLUMNS, read_table, six_decimals, split_assignment, write_csv, write_table
from segops.errors import UserError
from segops.params.input import InputParams
from tests.support.judged_candidates import folders, write_candidate
from tests.support.small_models import candidate_params

HASH = "0" * 64


def _registration(**change: Any) -> dict[str, Any]:
    return {
        "candidate": "net",
        "key": HASH,
        "weights_sha256": HASH,
        "registered": False,
        "model_name": "nuclei",
    } | change


def _assignment(rows: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(SPLIT_COLUMNS))


def test_a_copy_is_validated_like_a_new_one(tmp_path: Path) -> None:
    model = write_candidate(tmp_path, "x")
    for change in ({"val_dice": 7.0}, {"rule": "argmax"}, {"threshold": None}, {"no_such_field": 1}):
        with pytest.raises(ValidationError):
            model.model_copy(update=change)
    assert model.model_copy(update={"val_dice": 0.25}).val_dice == 0.25
    with pytest.raises(ValidationError):
        candidate_params().model_copy(update={"input": InputParams(channels=1), "members": (candidate_params(),)})


def test_every_set_of_values_is_validated_when_copied() -> None:
    """pydantic's own base class copies without a check, and so does what `model_construct` makes."""
    sources = {path: path.read_text() for path in Path(segops.__file__).parent.rglob("*.py")}
    unchecked = {
        path.name
        for path, text in sources.items()
        if re.search(r"^class \w+\((pydantic\.)?BaseModel\b", text, re.M) or "model_construct" in text
    }
    assert unchecked == {"section.py"}


def test_a_contract_survives_the_disk(tmp_path: Path) -> None:
    made = Registration.model_validate(_registration())
    made.save(tmp_path)
    assert Registration.load(tmp_path) == made


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"schema_version": 2}, "schema_version"), ({"key": "abc"}, "key"), ({"surprise": 1}, "surprise")],
)
def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    (tmp_path / "registration.json").write_text(pd.Series(_registration(**change)).to_json())
    with pytest.raises(UserError, match=rf"registration\.json: {expected}: .*run its stage again"):
        Registration.load(tmp_path)


def test_a_missing_contract_names_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stage that writes it first"):
        Registration.load(tmp_path)


def test_two_classes_have_a_threshold_and_several_have_none(tmp_path: Path) -> None:
    two = write_candidate(tmp_path, "two").model_dump()
    three = write_candidate(tmp_path, "three", classes=("background", "myelin", "axon")).model_dump()
    for values, rule, threshold, complaint in (
        (two, "best_dice", None, "rule best_dice doesn't go with threshold None"),
        (two, "otsu", 0.5, "rule otsu doesn't go with threshold 0.5"),
        (two, "argmax", None, "argmax is the rule of several classes alone"),
        (three, "fixed", 0.5, "argmax is the rule of several classes alone"),
    ):
        with pytest.raises(ValueError, match=complaint):
            TrainedModel.model_validate(values | {"rule": rule, "threshold": threshold})


def test_scores_are_of_the_classes_that_an_evaluation_names(tmp_path: Path) -> None:
    write_candidate(tmp_path, "one")
    values = Evaluation.load(folders(tmp_path).reports / "one").model_dump()
    assert Evaluation.model_validate(values).shown_classes == []
    with pytest.raises(ValueError, match="must be of the classes background, myelin, axon"):
        Evaluation.model_validate(values | {"classes": ["background", "myelin", "axon"]})
    values["test"]["confusion"] = [[1, 0]]
    with pytest.raises(ValueError, match="by_class and confusion must be of the classes background, nucleus"):
        Evaluation.model_validate(values)


def test_a_group_on_two_sides_cannot_be_constructed() -> None:
    table = _assignment([("a", "g", "train", 0), ("b", "g", "test", -1)])
    with pytest.raises(ValueError, match="groups on two sides of a grouped split: g"):
        split_assignment(table, "grouped")
    assert split_assignment(table, "published") is table


def test_a_group_in_two_folds_cannot_be_constructed() -> None:
    table = _assignment([("a", "g", "train", 0), ("b", "g", "train", 1)])
    with pytest.raises(ValueError, match="two sides"):
        split_assignment(table, "grouped")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "g", "trian", 0)], "unknown subsets"),
        ([("a", "g", "train", 0), ("a", "g", "train", 0)], "twice"),
        ([("a", "g", "test", 0)], "fold is -1"),
        ([("a", "g", "train", -1)], "fold is -1"),
    ],
)
def test_an_invalid_assignment_cannot_be_constructed(rows: list[tuple[str, str, str, int]], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        split_assignment(_assignment(rows), "grouped")


def test_a_grouped_summary_with_a_leak_cannot_be_constructed() -> None:
    part = SubsetSummary(images=1, groups=1, modalities={}, mean_foreground=0.1, sha256=HASH)
    facts: dict[str, Any] = {
        "seed": 0,
        "folds": 5,
        "manifest_sha256": HASH,
        "assignment_sha256": HASH,
        "subsets": dict.fromkeys(("train", "val", "test"), part),
        "groups_on_two_sides": 1,
        "images_sharing_a_group_with_train": {"val": 0, "test": 1},
        "imbalance": 0.0,
    }
    with pytest.raises(ValueError, match="1 groups are on two sides"):
        Split(protocol="grouped", **facts)
    assert Split(protocol="published", **facts).test_sha256 == HASH


@given(st.lists(st.tuples(st.text(max_size=5), st.sampled_from(["train", "val"]), st.integers(0, 9)), max_size=9))
def test_a_table_survives_the_disk_and_equal_rows_give_equal_bytes(rows: list[tuple[str, str, int]]) -> None:
    import tempfile

    table = _assignment([(name, name, subset, fold) for name, subset, fold in rows])
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "1.parquet"), Path(folder, "2.parquet")
        write_table(table, first, SPLIT_COLUMNS)
        write_table(table.copy(), second, SPLIT_COLUMNS)
        assert first.read_bytes() == second.read_bytes()
        assert read_table(first, SPLIT_COLUMNS).to_numpy().tolist() == table.to_numpy().tolist()


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"image_id": ["a"]}).to_parquet(tmp_path / "split.parquet")
    with pytest.raises(UserError, match="columns differ"):
        read_table(tmp_path / "split.parquet", SPLIT_COLUMNS)


def test_scores_of_before_objects_were_matched_with_the_source_s_can_still_be_read(tmp_path: Path) -> None:
    made = write_candidate(tmp_path, "resunet")
    path = folders(tmp_path).reports / "resunet" / PER_IMAGE_FILE
    whole = read_per_image(path.parent, made.classes)
    pd.read_csv(path).drop(columns=list(PER_IMAGE_ADDED)).to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_per_image(path.parent, made.classes), whole, check_dtype=False)
    pd.read_csv(path).drop(columns="dice").to_csv(path, index=False)
    with pytest.raises(UserError, match="columns differ"):
        read_per_image(path.parent, made.classes)


def test_a_torn_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a readable parquet file"):
        read_table(tmp_path / "split.parquet", SPLIT_COLUMNS)


def test_a_csv_holds_the_shortest_text_of_a_float_and_nothing_for_a_missing_value(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["a,b", "c"], "dice": [0.9, float("nan")], "rate": [1e-05, 1 / 3]})
    write_csv(table, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == b'image_id,dice,rate\n"a,b",0.9,1e-05\nc,,0.3333333333333333\n'


def test_six_decimals_round_floats_alone_and_as_printing_would() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "images": [3, 4], "dice": [1 / 128, 2 / 3]})
    rounded = six_decimals(table)
    assert rounded["dice"].tolist() == [float(f"{1 / 128:.6f}"), 0.666667]
    assert rounded.drop(columns="dice").equals(table.drop(columns="dice"))
