"""promote, rollback, history: the gate's numbers, one winner, and a ledger that says who did it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from segops.errors import UserError
from segops.files import sha256_lines
from segops.model_contracts import Evaluation
from segops.params.project import PromoteParams, TrackingParams
from segops.stages.gate import judge
from segops.stages.promote import Declined, GateRefused, history, print_history, promote, rollback
from segops.tracking import registry, store
from segops.tracking.model import read_per_image
from segops.tracking.registry import Evidence
from tests.judged_candidates import add_version, folders, write_candidate
from tests.mlflow_server import own_names

pytest_plugins = ["tests.mlflow_stores"]

PARAMS = PromoteParams(bootstrap=200, min_subgroup_images=2)


def _yes(question: str) -> bool:
    return True


def _champion(tracking: TrackingParams) -> int | None:
    return registry.alias(store.client(), tracking.model_name, registry.CHAMPION)


def _evidence(root: Path, version: int, **scores: Any) -> Evidence:
    write_candidate(root, f"v{version}", **scores)
    report = folders(root).reports / f"v{version}"
    evaluation = Evaluation.load(report)
    return Evidence(version, evaluation, read_per_image(report, evaluation.classes))


# ------------------------------------------------------------------------------------------------------------ gate


def test_the_first_champion_is_judged_on_the_floor_alone(tmp_path: Path) -> None:
    [check] = judge(PromoteParams(min_test_dice=0.75), _evidence(tmp_path, 1, test=(0.7, 0.9)), None)
    assert check.passed
    assert check.value == pytest.approx(0.8)
    assert check.limit == 0.75
    [check] = judge(PromoteParams(min_test_dice=0.85), _evidence(tmp_path, 1, test=(0.7, 0.9)), None)
    assert not check.passed


def test_classes_are_subgroups_where_there_are_several(tmp_path: Path) -> None:
    several = ("background", "myelin", "axon")
    mine = _evidence(tmp_path, 1, test=(0.8, 0.8), classes=several)
    champion = _evidence(tmp_path, 2, test=(0.7, 0.7), classes=several)
    rows = mine.per_image["subset"] == "test"
    mine.per_image.loc[rows, "dice_axon"] = 0.5  # the champion's is 0.6
    found = {check.name: check for check in judge(PARAMS, mine, champion)}
    assert found["not worse than the champion"].passed
    assert (found["class myelin"].passed, found["class axon"].passed) == (True, False)
    assert found["class myelin"].value == pytest.approx(0.1)
    assert found["class axon"].value == pytest.approx(-0.1)


def test_versions_with_other_classes_are_not_compared(tmp_path: Path) -> None:
    mine = _evidence(tmp_path, 1, classes=("background", "myelin", "axon"))
    other = _evidence(tmp_path, 2, classes=("background", "sheath", "axon"))
    refused = judge(PARAMS, mine, other)[0]
    assert (refused.name, refused.passed) == ("same test set", False)
    assert "their classes differ: background, myelin, axon against background, sheath, axon" in refused.detail
    two = [_evidence(tmp_path, 3), _evidence(tmp_path, 4, classes=("background", "cell"))]
    assert judge(PARAMS, *two)[0].passed  # a new name of the one foreground class changes nothing


def test_another_test_set_is_refused_and_not_compared(tmp_path: Path) -> None:
    mine = _evidence(tmp_path, 1)
    other = _evidence(tmp_path, 2, test_sha256=sha256_lines(["another"]))
    checks = judge(PARAMS, mine, other)
    assert [(check.name, check.passed) for check in checks] == [("same test set", False), ("test Dice floor", True)]


@pytest.mark.parametrize(("fall", "passed"), [(0.0, True), (0.009, True), (0.011, False)])
def test_the_interval_must_lie_above_the_margin(tmp_path: Path, fall: float, passed: bool) -> None:
    champion = _evidence(tmp_path, 1, test=[0.9] * 6)
    version = _evidence(tmp_path, 2, test=[0.9 - fall] * 6)  # equal differences: an interval without width
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    check = checks["not worse than the champion"]
    assert check.passed is passed
    assert check.value == pytest.approx(-fall)
    assert check.limit == -0.01


def test_a_modality_that_falls_is_refused_though_the_mean_rises(tmp_path: Path) -> None:
    champion = _evidence(tmp_path, 1, test=[0.5, 0.9] * 10)
    version = _evidence(tmp_path, 2, test=[0.9, 0.8] * 10)
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    assert checks["not worse than the champion"].passed
    assert (checks["modality fluorescence"].passed, checks["modality histology"].passed) == (True, False)
    assert checks["modality histology"].value == pytest.approx(-0.1)


def test_a_small_modality_is_shown_and_not_judged(tmp_path: Path) -> None:
    modalities = ["fluorescence"] * 4 + ["histology"]
    champion = _evidence(tmp_path, 1, test=[0.9] * 5, modalities=modalities)
    version = _evidence(tmp_path, 2, test=[0.95] * 4 + [0.5], modalities=modalities)
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    assert checks["modality histology"].passed is None
    assert checks["modality histology"].detail == "change of mean Dice -0.4000 on 1 images, under 2: not judged"


def test_tables_of_different_images_under_one_hash_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 and 1 were scored on different test images"):
        judge(PARAMS, _evidence(tmp_path, 2, test=[0.9] * 3), _evidence(tmp_path, 1, test=[0.9] * 2))


# ------------------------------------------------------------------------------------------------------- decisions


def test_promotion_and_rollback_from_the_store_alone(
    tracking: TrackingParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = add_version(tmp_path, tracking, "a", test=[0.8] * 4)
    second = add_version(tmp_path, tracking, "b", test=[0.9] * 4)
    registry.set_alias(store.client(), tracking.model_name, registry.CHALLENGER, second)
    (tmp_path / "reports").rename(tmp_path / "elsewhere")  # the gate reads MLflow, not local files

    made = promote(str(first), PARAMS, tracking, confirm=_yes, reason="the first", who="ann")
    assert (made.number, made.from_version, made.to_version, made.test_reads) == (1, None, first, 1)
    made = promote("challenger", PARAMS, tracking, confirm=_yes)
    assert (made.number, made.from_version, made.to_version, made.test_reads) == (2, first, second, 2)
    assert _champion(tracking) == second
    assert "passed  not worse than the champion: paired difference in test Dice +0.1000" in capsys.readouterr().err

    back = rollback(tracking, confirm=_yes, reason="too slow", who="bob")
    assert (back.number, back.from_version, back.to_version) == (3, second, first)
    assert _champion(tracking) == first
    with pytest.raises(UserError, match="no champion before the present one"):
        rollback(tracking, confirm=_yes)

    assert [(one.action, one.to_version, one.reason) for one in history(tracking)] == [
        ("promote", first, "the first"),
        ("promote", second, None),
        ("rollback", first, "too slow"),
    ]
    assert history(tracking)[0].who == "ann"
    print_history(tracking)
    shown = capsys.readouterr().out
    assert f"{second} → {first}" in shown
    assert "too slow" in shown


def test_a_refused_version_leaves_the_champion_and_an_entry(tracking: TrackingParams, tmp_path: Path) -> None:
    first = add_version(tmp_path, tracking, "a", test=[0.9] * 4)
    worse = add_version(tmp_path, tracking, "b", test=[0.7] * 4)
    promote(str(first), PARAMS, tracking, confirm=_yes)
    with pytest.raises(GateRefused, match=f"the gate refused version {worse}: not worse than the champion") as caught:
        promote(str(worse), PARAMS, tracking, confirm=_yes)
    assert caught.value.exit_code == 3
    assert _champion(tracking) == first
    refused = history(tracking)[-1]
    assert (refused.number, refused.action, refused.test_reads) == (None, "refused", 2)
    assert [check.name for check in refused.checks if check.passed is False] == [
        "not worse than the champion",
        "modality fluorescence",
        "modality histology",
    ]


def test_who_says_no_changes_nothing_but_the_count_of_readings(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    version = add_version(tmp_path, tracking, "a")
    with pytest.raises(Declined):
        promote(str(version), PARAMS, tracking, confirm=lambda question: False)
    assert _champion(tracking) is None
    assert [(one.action, one.number) for one in history(tracking)] == [("declined", None)]


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(tracking: TrackingParams, tmp_path: Path) -> None:
    versions = [add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in ("a", "b")]
    agreed = threading.Barrier(2)
    outcomes: dict[int, str] = {}

    def both_say_yes(question: str) -> bool:
        agreed.wait(60)
        return True

    def run(version: int) -> None:
        try:
            outcomes[version] = f"won {promote(str(version), PARAMS, tracking, confirm=both_say_yes).number}"
        except UserError as error:
            outcomes[version] = str(error)

    threads = [threading.Thread(target=run, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "won 1" for outcome in outcomes.values()) == [False, True], outcomes
    winner = next(version for version, outcome in outcomes.items() if outcome == "won 1")
    loser = next(outcome for outcome in outcomes.values() if outcome != "won 1")
    assert "decision 1" in loser
    assert "nothing was changed" in loser
    assert _champion(tracking) == winner
    assert [one.to_version for one in history(tracking)] == [winner]


def test_an_alias_moved_by_hand_in_between_is_noticed(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    first, second = (add_version(tmp_path, tracking, name, test=[0.9] * 4) for name in ("a", "b"))

    def somebody_moves_it(question: str) -> bool:
        registry.set_alias(store.client(), tracking.model_name, registry.CHAMPION, second)
        return True

    with pytest.raises(UserError, match=f"became version {second} meanwhile; nothing was changed"):
        promote(str(first), PARAMS, tracking, confirm=somebody_moves_it)
    assert _champion(tracking) == second
    with pytest.raises(UserError, match="no champion before"):
        rollback(tracking, confirm=_yes)


def test_a_user_learns_what_there_is(file_store: Path, tmp_path: Path) -> None:
    tracking = own_names()
    with pytest.raises(UserError, match=f"has no version of '{tracking.model_name}'; run `dvc repro`"):
        promote("challenger", PARAMS, tracking, confirm=_yes)
    version = add_version(tmp_path, tracking, "a")
    with pytest.raises(UserError, match=rf"has no version 99; its versions: {version} "):
        promote("99", PARAMS, tracking, confirm=_yes)
    with pytest.raises(UserError, match="has no alias 'challenger'"):
        promote("challenger", PARAMS, tracking, confirm=_yes)
    promote(str(version), PARAMS, tracking, confirm=_yes)
    with pytest.raises(UserError, match=f"version {version} of .* is the champion already"):
        promote(str(version), PARAMS, tracking, confirm=_yes)
    with pytest.raises(UserError, match="--reason has 1001 characters"):
        promote(str(version), PARAMS, tracking, confirm=_yes, reason="x" * 1001)


def test_a_version_that_segops_did_not_make_is_named(file_store: Path, tmp_path: Path) -> None:
    tracking, client = own_names(), store.client()
    client.create_registered_model(tracking.model_name)
    client.create_model_version(tracking.model_name, source=(tmp_path / "somewhere").as_uri())
    with pytest.raises(UserError, match=r"version 1 holds no candidate/metrics\.json"):
        promote("1", PARAMS, tracking, confirm=_yes)


def test_an_empty_ledger_says_how_to_begin(file_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_history(own_names())
    assert "`segops promote challenger` makes the first" in capsys.readouterr().err
