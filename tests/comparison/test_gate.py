"""The gate: each question with its number, derived by hand from chosen scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segops.comparison.gate import Evidence, Footprint, judge
from segops.contracts.decision import Check
from segops.contracts.evaluation import Evaluation
from segops.contracts.noise import Noise
from segops.contracts.per_image import read_per_image
from segops.errors import UserError
from segops.files import sha256_lines
from segops.inference.cost import Cost
from segops.params.promote import PromoteParams
from tests.support.judged_candidates import folders, write_candidate

PARAMS = PromoteParams(min_groups=2, min_subgroup_images=2)
HERE = Cost(milliseconds_an_image=12.0, height_px=64, width_px=80, device="cpu", threads=2)
FOOTPRINT = Footprint(parameters=1_000, weights_mib=2.0, cost=HERE)


def _evidence(root: Path, version: int, **scores: Any) -> Evidence:
    write_candidate(root, f"v{version}", **scores)
    report = folders(root).reports / f"v{version}"
    evaluation = Evaluation.load(report)
    return Evidence(version, evaluation, read_per_image(report, evaluation.classes))


def _judged(params: PromoteParams, version: Evidence, champion: Evidence | None, **given: Any) -> dict[str, Check]:
    return {check.name: check for check in judge(params, version, champion, **given)}


def _numbers(check: Check) -> tuple[float, float | None]:
    """The value to six decimals, and the limit."""
    assert check.value is not None
    return round(check.value, 6), check.limit


def _changed(params: PromoteParams, **given: Any) -> PromoteParams:
    return PromoteParams.model_validate(params.model_dump() | given)


@pytest.mark.parametrize(
    ("floors", "passed"),
    [((0.75, 0.67), [True, True]), ((0.85, 0.67), [False, True]), ((0.75, 0.69), [True, False])],
)
def test_the_first_champion_is_judged_on_the_floors_alone(
    tmp_path: Path, floors: tuple[float, float], passed: list[bool]
) -> None:
    params = PromoteParams(min_test_dice=floors[0], min_test_iou=floors[1])
    dice, iou = judge(params, _evidence(tmp_path, 1, test=(0.7, 0.9)), None)
    assert [dice.passed, iou.passed] == passed
    assert (dice.name, *_numbers(dice)) == ("test Dice floor", 0.8, floors[0])
    # IoU is Dice / (2 - Dice): 0.7 / 1.3 and 0.9 / 1.1.
    assert (iou.name, *_numbers(iou)) == ("test IoU floor", 0.678322, floors[1])


@pytest.mark.parametrize(
    ("ceiling", "name", "passed", "detail"),
    [
        ({"max_parameters": 1000}, "parameters", True, "1,000, at most 1,000"),
        ({"max_parameters": 999}, "parameters", False, "1,000, at most 999"),
        ({"max_weights_mib": 1.99}, "weights", False, "2.00 MiB, at most 1.99 MiB"),
        ({"max_milliseconds": 12}, "time an image", True, "12.0 ms, at most 12.0 ms (64x80 px on cpu, 2 threads)"),
        ({"max_milliseconds": 11.9}, "time an image", False, "12.0 ms, at most 11.9 ms (64x80 px on cpu, 2 threads)"),
    ],
)
def test_what_a_version_costs_has_a_ceiling_where_one_is_set(
    tmp_path: Path, ceiling: dict[str, float], name: str, passed: bool, detail: str
) -> None:
    params = _changed(PARAMS, **ceiling)
    assert params.has_ceiling
    assert not PARAMS.has_ceiling
    found = _judged(params, _evidence(tmp_path, 1), None, footprint=FOOTPRINT)
    assert list(found) == ["test Dice floor", "test IoU floor", name]
    assert (found[name].passed, found[name].detail) == (passed, detail)


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
    nucleus, cell = _evidence(tmp_path, 3), _evidence(tmp_path, 4, classes=("background", "cell"))
    assert judge(PARAMS, nucleus, cell)[0].passed  # a new name of the one foreground class changes nothing


def test_another_test_set_is_refused_and_not_compared(tmp_path: Path) -> None:
    mine = _evidence(tmp_path, 1)
    other = _evidence(tmp_path, 2, test_sha256=sha256_lines(["another"]))
    checks = judge(PARAMS, mine, other)
    assert [(check.name, check.passed) for check in checks] == [
        ("same test set", False),
        ("test Dice floor", True),
        ("test IoU floor", True),
    ]
    params = _changed(PARAMS, max_parameters=10)
    assert [check.passed for check in judge(params, mine, other, FOOTPRINT)] == [False, True, True, False]


@pytest.mark.parametrize(("fall", "passed"), [(0.0, True), (0.009, True), (0.011, False)])
def test_the_interval_must_lie_above_the_margin(tmp_path: Path, fall: float, passed: bool) -> None:
    champion = _evidence(tmp_path, 1, test=[0.9] * 6)
    version = _evidence(tmp_path, 2, test=[0.9 - fall] * 6)  # equal differences: an interval without width
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    check = checks["not worse than the champion"]
    assert check.passed is passed
    assert check.value == pytest.approx(-fall)
    assert check.limit == -0.01


def test_the_low_end_decides_and_not_the_mean(tmp_path: Path) -> None:
    champion = _evidence(tmp_path, 1, test=[0.8] * 10)
    version = _evidence(tmp_path, 2, test=[0.6, 1.0] * 5)  # as good in the mean, by a spread that says nothing
    check = _judged(PromoteParams(), version, champion)["not worse than the champion"]
    assert "paired difference in test Dice +0.0000" in check.detail
    assert not check.passed
    assert check.value is not None
    assert check.value < -0.2


@pytest.mark.parametrize(("groups", "said"), [(9, "9 groups"), (1, "1 group")])
def test_too_few_groups_are_not_judged_and_refused(tmp_path: Path, groups: int, said: str) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 12), _evidence(tmp_path, 2, test=[0.9] * 12)
    for one in (champion, version):
        rows = one.per_image["subset"] == "test"
        one.per_image.loc[rows, "group_id"] = [f"g{i % groups}" for i in range(12)]
    check = _judged(PromoteParams(), version, champion)["not worse than the champion"]
    assert check.passed is False
    assert check.detail.startswith(f"not judged: {said}, promote.min_groups is 10")
    enough = _evidence(tmp_path, 3, test=[0.8] * 10), _evidence(tmp_path, 4, test=[0.9] * 10)
    assert _judged(PromoteParams(), enough[1], enough[0])["not worse than the champion"].passed


def test_a_modality_that_falls_is_refused_though_the_mean_rises(tmp_path: Path) -> None:
    champion = _evidence(tmp_path, 1, test=[0.75, 0.90] * 30)
    version = _evidence(tmp_path, 2, test=[0.90, 0.84] * 30)
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    assert checks["not worse than the champion"].passed
    assert (checks["modality fluorescence"].passed, checks["modality histology"].passed) == (True, False)
    assert checks["modality histology"].value == pytest.approx(-0.06)


def test_a_small_modality_is_shown_and_not_judged(tmp_path: Path) -> None:
    modalities = ["fluorescence"] * 4 + ["histology"]
    champion = _evidence(tmp_path, 1, test=[0.9] * 5, modalities=modalities)
    version = _evidence(tmp_path, 2, test=[0.95] * 4 + [0.5], modalities=modalities)
    checks = {check.name: check for check in judge(PARAMS, version, champion)}
    assert checks["modality histology"].passed is None
    assert (
        checks["modality histology"].detail == "change of mean Dice -0.4000 on 1 images of 1 group, under 2: not judged"
    )


def test_tables_of_different_images_under_one_hash_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 and 1 were scored on different test images"):
        judge(PARAMS, _evidence(tmp_path, 2, test=[0.9] * 3), _evidence(tmp_path, 1, test=[0.9] * 2))


# --------------------------------------------------------------------------------------------------- absent classes


def _class_free(evidence: Evidence, images: Sequence[str], *, predicted: Sequence[str]) -> None:
    """Take the foreground out of the truth of some images; in those of `predicted` some is found."""
    table = evidence.per_image
    for image in images:
        found = image in predicted
        row = table["image_id"] == image
        table.loc[row, ["true_positive", "false_negative", "false_positive"]] = (0, 0, 5 if found else 0)
        table.loc[row, ["dice", "iou"]] = 0.0 if found else float("nan")


def test_false_positives_may_not_rise_and_images_without_foreground_are_not_compared(tmp_path: Path) -> None:
    empty = [f"test{number:02}" for number in range(6, 10)]
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 10), _evidence(tmp_path, 2, test=[0.85] * 10)
    _class_free(champion, empty, predicted=empty[:1])
    _class_free(version, empty, predicted=empty[:2])
    found = _judged(PARAMS, version, champion)
    # Where there is something to find the version gains 0.05, and nothing else is compared.
    assert found["not worse than the champion"].value == pytest.approx(0.05)
    assert (found["false positives"].passed, *_numbers(found["false positives"])) == (False, 0.25, 0.05)
    assert "predicted in 50.0% of 4 test images that have none, by the champion in 25.0%" in (
        found["false positives"].detail
    )
    assert _judged(PARAMS, champion, version)["false positives"].passed
    assert _judged(PARAMS, champion, champion)["false positives"].value == 0
    assert _judged(_changed(PARAMS, subgroup_margin=0.25), version, champion)["false positives"].passed
    few = _judged(_changed(PARAMS, min_subgroup_images=5), version, champion)["false positives"]
    assert (few.passed, few.value) == (None, 0.25)
    assert few.detail.endswith("a change of +0.2500, under 5: not judged")
    assert not _judged(_changed(PARAMS, min_subgroup_images=4), version, champion)["false positives"].passed


def test_false_positives_are_asked_by_class_too(tmp_path: Path) -> None:
    several = ("background", "myelin", "axon")
    mine, champion = (_evidence(tmp_path, n, test=[0.8] * 4, classes=several) for n in (1, 2))
    for one in (mine, champion):
        one.per_image["pixels_axon"] = one.per_image["predicted_pixels_axon"] = 0
        one.per_image["dice_axon"] = float("nan")
    mine.per_image.loc[mine.per_image["image_id"] == "test00", ["predicted_pixels_axon", "dice_axon"]] = (7, 0.0)
    found = _judged(PARAMS, mine, champion)
    assert (found["class axon"].passed, found["class axon"].detail) == (None, "no test image has it: not judged")
    assert (found["false positives of axon"].passed, found["false positives of axon"].value) == (False, 0.25)
    assert "false positives" not in found  # every image has foreground
    assert "false positives of myelin" not in found


def test_tables_of_different_masks_under_one_hash_are_refused(tmp_path: Path) -> None:
    one, other = (_evidence(tmp_path, n, test=[0.8] * 4) for n in (1, 2))
    _class_free(one, ["test00"], predicted=[])
    with pytest.raises(UserError, match="1 and 2 were scored on different test masks; run evaluate for both"):
        judge(PARAMS, one, other)


# ---------------------------------------------------------------------------------------------------- gain and noise


def _noise(floor: float) -> Noise:
    return Noise(
        candidate="v2",
        key=sha256_lines(["v2"]),
        seeds=[0, 1, 2],
        val_dice=[0.8, 0.8, 0.8],
        deviation=0.005,
        floor=floor,
    )


@pytest.mark.parametrize(("min_gain", "passed"), [(0.015, True), (0.025, False)])
def test_a_gain_can_be_asked(tmp_path: Path, min_gain: float, passed: bool) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 4), _evidence(tmp_path, 2, test=[0.83, 0.81] * 2)
    assert "gain" not in _judged(PARAMS, version, champion)
    found = _judged(_changed(PARAMS, min_gain=min_gain), version, champion)["gain"]
    assert (found.passed, *_numbers(found)) == (passed, 0.02, min_gain)


@pytest.mark.parametrize(
    ("min_gain", "floor", "passed"), [(None, 0.03, None), (0.0, 0.03, False), (0.0, 0.01, True), (0.0, None, None)]
)
def test_a_gain_within_the_noise_of_seeds_is_none(
    tmp_path: Path, min_gain: float | None, floor: float | None, passed: bool | None
) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 4), _evidence(tmp_path, 2, test=[0.82] * 4)
    version = replace(version, noise=_noise(floor) if floor is not None else None)
    found = _judged(_changed(PARAMS, min_gain=min_gain), version, champion)["gain above the noise of seeds"]
    assert (found.passed, *_numbers(found)) == (passed, 0.02, floor)
    assert ("not judged" in found.detail) == (passed is None)
    assert ("`segops noise v2` measures it" in found.detail) == (floor is None)


# ---------------------------------------------------------------------------------------------------------- subgroups


def test_an_image_size_that_falls_is_refused(tmp_path: Path) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 6), _evidence(tmp_path, 2, test=[0.9] * 4 + [0.7] * 2)
    for one in (champion, version):
        one.per_image.loc[one.per_image["image_id"].isin(["test04", "test05"]), "width"] = 300
    found = _judged(PARAMS, version, champion)
    assert (found["size 1-256 px"].passed, found["size 257-512 px"].passed) == (True, False)
    assert found["size 1-256 px"].value == pytest.approx(0.1)
    assert found["size 257-512 px"].value == pytest.approx(-0.1)


def test_groups_share_a_check_that_names_those_that_fell(tmp_path: Path) -> None:
    groups = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "alone"]
    change = {"a": 0.1, "b": -0.2, "c": -0.1, "d": -0.07, "e": -0.06, "alone": -0.5}
    champion = _evidence(tmp_path, 1, test=[0.8] * 11)
    version = _evidence(tmp_path, 2, test=[0.8 + change[group] for group in groups])
    for one in (champion, version):
        one.per_image.loc[one.per_image["subset"] == "test", "group_id"] = groups
    found = _judged(PARAMS, version, champion)["groups"]
    assert (found.passed, *_numbers(found)) == (False, -0.2, -0.05)
    assert found.detail == (
        "lowest change of mean Dice -0.2000 in 5 groups of at least 2 images, not below -0.0500; "
        "fell: b -0.2000, c -0.1000, d -0.0700 and 1 more"
    )
    tolerant = _judged(_changed(PARAMS, subgroup_margin=0.25), version, champion)["groups"]
    assert tolerant.passed
    assert "fell" not in tolerant.detail


def test_groups_of_too_few_images_and_the_only_modality_are_no_question(tmp_path: Path) -> None:
    one, other = (_evidence(tmp_path, n, test=[0.8] * 4, modalities=["fluorescence"]) for n in (1, 2))
    assert list(_judged(PARAMS, one, other)) == [
        "same test set",
        "test Dice floor",
        "test IoU floor",
        "not worse than the champion",
        "gain above the noise of seeds",
    ]


# ---------------------------------------------------------------------------------------------------- at the limits


def test_what_stands_exactly_at_a_floor_or_a_gain_passes_and_at_the_noise_or_the_margin_does_not(
    tmp_path: Path,
) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 4), _evidence(tmp_path, 2, test=[0.82] * 4)
    scores = version.evaluation.test
    params = _changed(PARAMS, min_test_dice=scores.dice.mean, min_test_iou=scores.iou.mean, min_gain=0.02, margin=0.02)
    found = _judged(params, replace(version, noise=_noise(0.02)), champion)
    names = ("test Dice floor", "test IoU floor", "gain", "gain above the noise of seeds")
    assert [found[name].passed for name in names] == [True, True, True, False]
    back = _judged(_changed(PARAMS, margin=0.02), champion, version)["not worse than the champion"]
    assert (back.passed, back.value) == (False, -0.02)


def test_a_subgroup_or_a_group_that_falls_by_exactly_the_margin_passes(tmp_path: Path) -> None:
    """Quarters, which floating point holds exactly."""
    champion, version = _evidence(tmp_path, 1, test=[0.75] * 4), _evidence(tmp_path, 2, test=[0.5, 1.0] * 2)
    for one in (champion, version):
        one.per_image.loc[one.per_image["subset"] == "test", "group_id"] = ["a", "b"] * 2
    for margin, passed in ((0.25, True), (0.24, False)):
        found = _judged(_changed(PARAMS, subgroup_margin=margin), version, champion)
        assert (found["modality fluorescence"].passed, found["modality histology"].passed) == (passed, True)
        assert (found["groups"].passed, found["groups"].value) == (passed, -0.25)


def test_three_groups_that_fell_are_all_named(tmp_path: Path) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 8), _evidence(tmp_path, 2, test=[0.9] * 2 + [0.7] * 6)
    for one in (champion, version):
        one.per_image.loc[one.per_image["subset"] == "test", "group_id"] = [f"g{i // 2}" for i in range(8)]
    found = _judged(PARAMS, version, champion)["groups"]
    assert found.detail.endswith("; fell: g1 -0.1000, g2 -0.1000, g3 -0.1000")


def test_a_rise_of_false_positives_has_nine_decimals(tmp_path: Path) -> None:
    empty = ["test00", "test01", "test02"]
    champion, version = (_evidence(tmp_path, n, test=[0.8] * 5) for n in (1, 2))
    _class_free(champion, empty, predicted=[])
    _class_free(version, empty, predicted=empty[:1])
    found = _judged(PARAMS, version, champion)["false positives"]
    assert found.value == 0.333333333
    assert "of 3 test images" in found.detail


def test_where_too_few_groups_are_not_judged_the_low_end_is_shown_all_the_same(tmp_path: Path) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 4), _evidence(tmp_path, 2, test=[0.9, 0.7] * 2)
    found = _judged(PromoteParams(), version, champion)["not worse than the champion"]
    assert found.passed is False
    assert found.value is not None
    assert found.value < -0.1


def test_a_subgroups_limit_is_a_fall(tmp_path: Path) -> None:
    champion, version = _evidence(tmp_path, 1, test=[0.8] * 4), _evidence(tmp_path, 2, test=[0.9] * 4)
    assert _judged(PARAMS, version, champion)["modality histology"].limit == -0.05


def test_other_masks_of_a_class_under_one_hash_are_refused(tmp_path: Path) -> None:
    one, other = (_evidence(tmp_path, n, test=[0.8] * 4, classes=("background", "myelin", "axon")) for n in (1, 2))
    other.per_image.loc[other.per_image["image_id"] == "test00", "pixels_axon"] = 0
    for mine, theirs in ((one, other), (other, one)):
        with pytest.raises(UserError, match="were scored on different test masks; run evaluate for both"):
            judge(PARAMS, mine, theirs)
