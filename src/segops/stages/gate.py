"""The gate between a version and the champion: questions with numbers, without side effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.params.project import PromoteParams
from segops.scores import Interval
from segops.tables import class_columns

if TYPE_CHECKING:
    import pandas as pd

    from segops.tracking.ledger import Check
    from segops.tracking.registry import Evidence


def judge(params: PromoteParams, version: Evidence, champion: Evidence | None) -> list[Check]:
    """Ask everything that promotion asks; without a champion only the floor.

    Raises:
        UserError: the two per-image tables aren't of the same test images.
    """
    from segops.tracking.ledger import Check

    dice = version.evaluation.test.dice.mean
    checks = [
        Check(
            name="test Dice floor",
            passed=dice >= params.min_test_dice,
            value=dice,
            limit=params.min_test_dice,
            detail=f"mean Dice on test {dice:.4f}, at least {params.min_test_dice:.4f}",
        )
    ]
    if champion is None:
        return checks
    same = _identity_of(version) == _identity_of(champion)
    checks.insert(0, Check(name="same test set", passed=same, detail=_identity(version, champion)))
    if not same:
        return checks
    names = (str(version.version), str(champion.version))
    pairs = paired_rows(version.per_image, champion.per_image, "test", names)
    checks += [_non_inferior(params, pairs), *_modalities(params, pairs)]
    for name in version.evaluation.shown_classes:
        column, _ = class_columns(version.evaluation.classes)[name]
        rows = paired_rows(version.per_image, champion.per_image, "test", names, score=column)
        checks.append(_no_worse(params, f"class {name}", rows))
    return checks


def paired_rows(
    a: pd.DataFrame, b: pd.DataFrame, subset: str, names: Sequence[str], *, score: str = "dice"
) -> pd.DataFrame:
    """Two per-image tables joined on the images of a subset: image_id, group_id, modality, dice_a, dice_b.

    Args:
        score: the column that becomes dice_a and dice_b.

    Raises:
        UserError: they aren't of the same images.
    """
    columns = {"image_id": "image_id", "group_id": "group_id", "modality": "modality", score: "dice"}
    left, right = (table.loc[table["subset"] == subset, list(columns)].rename(columns=columns) for table in (a, b))
    if sorted(left["image_id"]) != sorted(right["image_id"]):
        raise UserError(f"{names[0]} and {names[1]} were scored on different {subset} images; run evaluate for both")
    joined = left.merge(right[["image_id", "dice"]], on="image_id", suffixes=("_a", "_b"), validate="one_to_one")
    return joined.sort_values("image_id", ignore_index=True)


def paired_interval(pairs: pd.DataFrame, *, resamples: int, confidence: float, seed: int) -> Interval:
    """Mean of dice_a - dice_b with its bootstrap interval over groups."""
    from segops.evaluation.statistics import paired_difference

    return paired_difference(
        pairs["dice_a"].to_numpy(), pairs["dice_b"].to_numpy(), pairs["group_id"].to_numpy(),
        resamples=resamples, confidence=confidence, seed=seed,
    )  # fmt: skip


def _identity_of(one: Evidence) -> tuple[str, list[str]]:
    """What two versions must share to be compared: the test set, and the classes where several are scored."""
    return one.evaluation.test_sha256, one.evaluation.shown_classes


def _identity(version: Evidence, champion: Evidence) -> str:
    (mine, my_classes), (theirs, their_classes) = _identity_of(version), _identity_of(champion)
    shown = f"version {version.version} on {mine[:12]}, champion {champion.version} on {theirs[:12]}"
    if my_classes == their_classes:
        return shown
    classes = [", ".join(one.evaluation.classes) for one in (version, champion)]
    return f"{shown}; their classes differ: {classes[0]} against {classes[1]}"


def _non_inferior(params: PromoteParams, pairs: pd.DataFrame) -> Check:
    from segops.tracking.ledger import Check

    found = paired_interval(pairs, resamples=params.bootstrap, confidence=params.confidence, seed=params.seed)
    return Check(
        name="not worse than the champion",
        passed=found.low > -params.margin,
        value=found.low,
        limit=-params.margin,
        detail=(
            f"paired difference in test Dice {found.mean:+.4f} ({params.confidence:.0%} interval {found.low:+.4f} to "
            f"{found.high:+.4f}, {len(pairs)} images), low end above {-params.margin:+.4f}"
        ),
    )


def _modalities(params: PromoteParams, pairs: pd.DataFrame) -> list[Check]:
    return [_no_worse(params, f"modality {name}", rows) for name, rows in pairs.groupby("modality", sort=True)]


def _no_worse(params: PromoteParams, name: str, rows: pd.DataFrame) -> Check:
    """No subgroup's mean Dice falls by more than the margin; a small one is shown and not judged."""
    from segops.tracking.ledger import Check

    change = float((rows["dice_a"] - rows["dice_b"]).mean())
    judged = len(rows) >= params.min_subgroup_images
    why = f"not below {-params.subgroup_margin:+.4f}" if judged else f"under {params.min_subgroup_images}: not judged"
    return Check(
        name=name,
        passed=change >= -params.subgroup_margin if judged else None,
        value=change,
        limit=-params.subgroup_margin,
        detail=f"change of mean Dice {change:+.4f} on {len(rows)} images, {why}",
    )
