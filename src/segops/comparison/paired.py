"""Two candidates on the same images: how far their Dice differs, is that chance, and in which subgroups.

Images whose truth lacks what is compared are left out: there Dice is 0 or undefined, so it would depend on the
candidates which images count. `a` is the candidate that ranks higher. Tables have the columns of per_image.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import pandas as pd

from segops.contracts.per_image import ClassColumns, class_columns
from segops.contracts.scores import Interval, PairedDifference, SubgroupDifference
from segops.errors import UserError
from segops.evaluation.intervals import SHARE_DIFFERENCE, group_interval, holm, signed_rank
from segops.evaluation.presence import in_truth
from segops.evaluation.subgroups import subgroups
from segops.params.compare import CompareParams
from segops.params.promote import PromoteParams

Half = Literal["val", "test"]
HALVES: tuple[Half, Half] = ("val", "test")
_ABOUT = ["image_id", "group_id", "modality", "height", "width"]


class Judged(NamedTuple):
    """Holds a candidate's name, and its table with the columns of per_image.csv."""

    name: str
    per_image: pd.DataFrame


def same_images(a: Judged, b: Judged, subset: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a subset in both tables, by image id. Raises UserError where their images differ."""
    left, right = (
        judged.per_image.loc[judged.per_image["subset"] == subset].sort_values("image_id", ignore_index=True)
        for judged in (a, b)
    )
    if left["image_id"].tolist() != right["image_id"].tolist():
        raise UserError(f"{a.name} and {b.name} were scored on different {subset} images; run evaluate for both")
    return left, right


def paired_rows(a: Judged, b: Judged, subset: str, own: ClassColumns | None = None) -> pd.DataFrame:
    """Join two tables on the images of a subset whose truth has foreground, or a class.

    The columns are image_id, group_id, modality, height, width, dice_a, dice_b, change.

    Args:
        own: the columns of a class; None: of the image. Change is dice_a - dice_b.

    Raises:
        UserError: they aren't of the same images, or of the same truth.
    """
    left, right = same_images(a, b, subset)
    there = in_truth(left, own)
    if not there.equals(in_truth(right, own)):
        raise UserError(f"{a.name} and {b.name} were scored on different {subset} masks; run evaluate for both")
    score = own.dice if own else "dice"
    joined = left.loc[there, _ABOUT].assign(dice_a=left.loc[there, score], dice_b=right.loc[there, score])
    joined["change"] = joined["dice_a"] - joined["dice_b"]
    return joined.reset_index(drop=True)


def paired_interval(rows: pd.DataFrame, params: CompareParams | PromoteParams) -> Interval:
    """Return the mean difference of Dice with its interval over groups; above 0, `a` is better."""
    change, groups = rows["change"].to_numpy(), rows["group_id"].to_numpy()
    return group_interval(change, groups, confidence=params.confidence, bounds=SHARE_DIFFERENCE)


def paired_differences(ranked: Sequence[Judged], params: CompareParams) -> list[PairedDifference]:
    """Compare every pair on validation and on test, p adjusted over the pairs of a subset.

    The leader is chosen by the same scores, so its pairs alone aren't the family of tests: any pair could have become
    the one that is looked at. Fewer tests would do for a control that was named before (Demsar 2006, section 3.2).

    Args:
        ranked: the best first.
    """
    found: list[PairedDifference] = []
    for subset in HALVES:
        pairs = list(combinations(ranked, 2))
        tables = [paired_rows(a, b, subset) for a, b in pairs]
        level = 1 - params.confidence
        tests = [signed_rank(rows["change"].to_numpy(), rows["group_id"].to_numpy(), level=level) for rows in tables]
        adjusted = holm([test.p for test in tests])
        for (a, b), rows, test, adjusted_p in zip(pairs, tables, tests, adjusted, strict=True):
            difference = paired_interval(rows, params)
            found.append(
                PairedDifference(
                    a=a.name,
                    b=b.name,
                    subset=subset,
                    images=len(rows),
                    groups=int(rows["group_id"].nunique()),
                    difference=difference,
                    p=test.p,
                    adjusted_p=adjusted_p,
                    reason=test.reason,
                    effect=test.effect,
                    real=is_real(difference, adjusted_p, test.effect, level=level),
                )
            )
    return found


def is_real(difference: Interval, adjusted_p: float | None, effect: float | None, *, level: float) -> bool:
    """Say whether the interval of the mean and the test of the ranks agree on a side and that this isn't chance."""
    if adjusted_p is None or effect is None or adjusted_p >= level:
        return False
    return difference.side * effect > 0


def subgroup_differences(
    ranked: Sequence[Judged], classes: Sequence[str], params: CompareParams
) -> list[SubgroupDifference]:
    """Compare the leader with each other candidate by class, modality, size and group, on validation and on test.

    Args:
        ranked: the best first.
        classes: names by index, background first.
    """
    leader, *others = ranked
    found: list[SubgroupDifference] = []
    for other in others:
        for subset in HALVES:
            for kind, name, rows in _parts(leader, other, subset, classes, params.min_subgroup_images):
                difference = paired_interval(rows, params)
                judged = len(rows) >= params.min_subgroup_images
                found.append(
                    SubgroupDifference(
                        a=leader.name,
                        b=other.name,
                        subset=subset,
                        kind=kind,
                        name=name,
                        images=len(rows),
                        groups=difference.groups,
                        dice_a=_mean(rows["dice_a"]),
                        dice_b=_mean(rows["dice_b"]),
                        difference=difference,
                        regressed=difference.mean < -params.subgroup_margin if judged else None,
                    )
                )
    return found


def _parts(
    a: Judged, b: Judged, subset: str, classes: Sequence[str], least: int
) -> Iterator[tuple[Literal["modality", "size", "group", "class"], str, pd.DataFrame]]:
    """Yield kind, name and paired rows of each class and subgroup of a pair."""
    for name, own in class_columns(classes).items():
        if len(rows := paired_rows(a, b, subset, own)):
            yield "class", name, rows
    for part in subgroups(paired_rows(a, b, subset), min_group_images=least):
        yield part.kind, part.name, part.rows  # type: ignore[misc]


def _mean(column: pd.Series[float]) -> float:
    """Return the mean, rounded to nine decimals."""
    return round(float(column.mean()), 9)
