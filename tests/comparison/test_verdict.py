"""What a comparison says: one rule, one sentence."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from segops.comparison.verdict import decision, verdict
from segops.contracts.scores import Interval, PairedDifference, Standing, SubgroupDifference

REAL = Interval(mean=0.02, low=0.01, high=0.03, groups=20)
OPEN = Interval(mean=0.02, low=-0.01, high=0.05, groups=20)
OTHER_WAY = Interval(mean=-0.02, low=-0.03, high=-0.01, groups=20)
ONE_GROUP = Interval(mean=0.02, low=None, high=None, groups=1)


def difference(
    interval: Interval, a: str = "a", b: str = "b", subset: Literal["val", "test"] = "val", **changed: Any
) -> PairedDifference:
    values: dict[str, Any] = {
        "p": 0.001,
        "adjusted_p": 0.001,
        "reason": None,
        "effect": 0.8,
        "real": interval.side != 0,
    }
    return PairedDifference(
        a=a, b=b, subset=subset, images=40, groups=interval.groups, difference=interval, **{**values, **changed}
    )


def standing(rank: int, name: str, *, gflops: float = 1.0, registered: bool = True, parameters: int = 1000) -> Standing:
    dice = Interval(mean=0.9 - rank / 100, low=0.8, high=0.95, groups=20)
    return Standing(
        rank=rank, candidate=name, val_dice=dice, val_iou=0.8, val_ece=0.1, test_dice=dice, test_iou=0.8, test_ece=0.1,
        val_class_dice={}, test_class_dice={}, val_false_positives=None, test_false_positives=0.1,
        parameters=parameters, gflops=gflops, registered=registered,
        version=rank if registered else None, reason=None if registered else "Dice 0.41 is below 0.5",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (difference(REAL), "the lead is real"),
        (difference(OTHER_WAY), "b is better here"),
        (difference(OPEN), "could be chance: the interval holds 0"),
        (difference(ONE_GROUP), "could be chance: validation has 1 group, which says nothing of others"),
        (
            difference(
                REAL, real=False, p=None, adjusted_p=None, reason="5 groups differ: no p below 0.0625 is possible"
            ),
            "could be chance: 5 groups differ: no p below 0.0625 is possible",
        ),
        (
            difference(REAL, real=False, adjusted_p=0.08),
            "could be chance: the signed-rank test's adjusted p of 0.08 isn't below 0.05",
        ),
        (
            difference(REAL, real=False, effect=-0.5),
            "could be chance: the mean and the ranks of the groups favour different sides",
        ),
    ],
)
def test_a_verdict_is_real_or_says_which_part_of_the_rule_is_missed(found: PairedDifference, said: str) -> None:
    assert verdict(found, 0.95) == said


def both(val: Interval, test: Interval, a: str = "a", b: str = "b") -> list[PairedDifference]:
    return [difference(val, a, b), difference(test, a, b, "test")]


def test_a_real_lead_is_taken() -> None:
    standings = [standing(1, "a"), standing(2, "b")]
    assert decision(standings, both(REAL, OPEN), [], 0.95) == (
        "Take a (version 1): its lead over b is real (+0.0200 (+0.0100 to +0.0300))."
    )
    fallen = SubgroupDifference(
        a="a", b="b", subset="val", kind="modality", name="histology", images=9, groups=3, dice_a=0.6, dice_b=0.8,
        difference=Interval(mean=-0.2, low=-0.4, high=0.1, groups=3), regressed=True,
    )  # fmt: skip
    assert decision(standings, both(REAL, OPEN), [fallen], 0.95) == (
        "Take a (version 1): its lead over b is real (+0.0200 (+0.0100 to +0.0300)), but not everywhere: look first at "
        "modality histology (validation, -0.2000 against b)."
    )


def test_of_candidates_that_cannot_be_told_apart_the_first_is_taken_and_a_cheaper_one_named() -> None:
    standings = [standing(1, "a", gflops=9), standing(2, "b", gflops=2), standing(3, "c", gflops=1)]
    found = [*both(OPEN, REAL), *both(REAL, REAL, b="c"), *both(REAL, REAL, "b", "c")]
    said = (
        "Can't tell a from b, because the interval holds 0 (+0.0200 (-0.0100 to +0.0500), 20 groups): take a "
        "(version 1), which ranks first, or score more groups"
    )
    assert decision(standings, found, [], 0.95) == f"{said}; b costs less (2 GFLOPs instead of 9)."
    assert decision([standing(1, "a", gflops=2), *standings[1:]], found, [], 0.95) == f"{said}."


def test_a_test_set_that_really_favours_the_other_leaves_it_open() -> None:
    said = decision([standing(1, "a"), standing(2, "b")], both(REAL, OTHER_WAY), [], 0.95)
    assert said.startswith("Can't tell a from b, because validation favours a and test favours b: ")


def test_only_what_reaches_the_floors_can_be_taken() -> None:
    first, second, third = standing(1, "x", registered=False), standing(2, "a"), standing(3, "b")
    assert decision([first, second], both(OTHER_WAY, OPEN, "x", "a"), [], 0.95) == (
        "Take a (version 2): it is the only candidate that reaches the floors."
    )
    found = [*both(OPEN, OPEN, "x", "a"), *both(OPEN, OPEN, "x", "b"), *both(REAL, OPEN, "a", "b")]
    assert decision([first, second, third], found, [], 0.95).startswith("Take a (version 2): its lead over b is real")
    assert decision([first], [], [], 0.95) == "Take none: nobody reaches the floors (x: Dice 0.41 is below 0.5)."
    assert decision([standing(1, "a")], [], [], 0.95) == "Take a (version 1): it is the only candidate."


def test_a_p_at_the_level_is_not_below_it() -> None:
    found = difference(REAL, real=False, adjusted_p=1 - 0.95)
    assert verdict(found, 0.95) == "could be chance: the signed-rank test's adjusted p of 0.05 isn't below 0.05"


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, "; and 1 more"), (5, "; and 2 more")])
def test_of_candidates_below_the_floors_three_are_named(count: int, more: str) -> None:
    standings = [standing(rank, name, registered=False) for rank, name in enumerate("abcde"[:count], 1)]
    named = "; ".join(f"{name}: Dice 0.41 is below 0.5" for name in "abc")
    assert decision(standings, [], [], 0.95) == f"Take none: nobody reaches the floors ({named}{more})."


@pytest.mark.parametrize(("count", "named"), [(4, "b or c or d"), (5, "b or c or d or 1 more")])
def test_of_candidates_that_cannot_be_told_apart_three_are_named(count: int, named: str) -> None:
    standings = [standing(rank, name) for rank, name in enumerate("abcde"[:count], 1)]
    found = [pair for other in standings[1:] for pair in both(OPEN, OPEN, b=other.candidate)]
    assert decision(standings, found, [], 0.95).startswith(f"Can't tell a from {named}, because the interval holds 0")


def _fallen(kind: Literal["modality", "group"], name: str, mean: float, **changed: Any) -> SubgroupDifference:
    values: dict[str, Any] = {"a": "a", "b": "b", "regressed": True} | changed
    return SubgroupDifference(
        subset="val", kind=kind, name=name, images=9, groups=3, dice_a=0.6, dice_b=0.6 - mean,
        difference=Interval(mean=mean, low=mean - 0.1, high=mean + 0.1, groups=3), **values,
    )  # fmt: skip


@pytest.mark.parametrize("more", [0, 1])
def test_the_worst_three_subgroups_of_the_leader_are_named_first(more: int) -> None:
    subgroups = [
        _fallen("modality", "dark", -0.1),
        _fallen("modality", "bright", -0.3),
        _fallen("modality", "grey", -0.5, regressed=False),
        _fallen("modality", "red", -0.5, regressed=None),
        _fallen("group", "g1", -0.5, a="b", b="c"),  # not the leader's
        _fallen("group", "g2", -0.2),
        *[_fallen("group", "g3", -0.05)] * more,
    ]
    said = decision([standing(1, "a"), standing(2, "b")], both(REAL, OPEN), subgroups, 0.95)
    assert said.endswith(
        ", but not everywhere: look first at modality bright (validation, -0.3000 against b), group g2 (validation, "
        f"-0.2000 against b), modality dark (validation, -0.1000 against b){' and 1 more' if more else ''}."
    )


def test_a_lead_over_several_is_one_over_the_next_and_all_others() -> None:
    standings = [standing(rank, name) for rank, name in enumerate("abc", 1)]
    found = [*both(REAL, OPEN), *both(REAL, OPEN, b="c")]
    assert decision(standings, found, [], 0.95) == (
        "Take a (version 1): its lead over b and all others is real (+0.0200 (+0.0100 to +0.0300))."
    )


def test_where_nothing_trained_ranks_first_training_is_said_not_to_be_worth_it() -> None:
    standings = [standing(1, "otsu", parameters=0), standing(2, "unet")]
    said = decision(standings, [difference(REAL, "otsu", "unet")], [], 0.95)
    assert said == (
        "Take otsu (version 1): it trains nothing and ranks first, so that training isn't worth it on these images."
    )


def test_a_program_that_cannot_be_promoted_and_ranks_first_makes_training_not_worth_it() -> None:
    standings = [standing(1, "stardist", registered=False, parameters=0), standing(2, "unet")]
    assert decision(standings, [difference(REAL, "stardist", "unet")], [], 0.95) == (
        "Training isn't worth it on these images: stardist, which isn't trained here, ranks before unet (validation "
        "Dice +0.0200 (+0.0100 to +0.0300)). It can't be promoted; of what can, take unet (version 2)."
    )
    said = decision(standings, [difference(OPEN, "stardist", "unet")], [], 0.95)
    assert ", which could be chance: the interval holds 0)" in said


def test_a_lead_is_one_over_programs_that_cannot_be_promoted_too() -> None:
    standings = [standing(1, "unet"), standing(2, "stardist", registered=False, parameters=0)]
    found = both(OPEN, OPEN, "unet", "stardist")
    assert decision(standings, found, [], 0.95).startswith("Can't tell unet from stardist, because the interval holds")
    found = both(REAL, OPEN, "unet", "stardist")
    assert decision(standings, found, [], 0.95).startswith("Take unet (version 1): its lead over stardist is real")
