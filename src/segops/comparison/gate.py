"""The gate between a version and the champion: questions with numbers, without side effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from segops.contracts.decision import Check
from segops.contracts.evaluation import Evaluation
from segops.contracts.noise import Noise
from segops.contracts.per_image import ClassColumns, class_columns
from segops.contracts.scores import Interval
from segops.evaluation.subgroups import Subgroup, subgroups
from segops.params.promote import PromoteParams

if TYPE_CHECKING:
    import pandas as pd

    from segops.comparison.paired import Judged
    from segops.inference.cost import Cost

_NAMED = 3  # groups that a check names
_FEW = "under {}: not judged"


class Footprint(NamedTuple):
    """Holds what a version costs; `cost` is None where its time wasn't asked for."""

    parameters: int
    weights_mib: float
    cost: Cost | None = None


@dataclass(frozen=True)
class Evidence:
    """Holds what the gate knows of a version, read from the store.

    Attributes:
        hashes: SHA-256 of metrics.json and per_image.csv, by `HASH_TAGS`' names.
    """

    version: int
    evaluation: Evaluation
    per_image: pd.DataFrame  # per_image_columns of the evaluation's classes
    noise: Noise | None = None  # of seeds, where `segops noise` measured it
    hashes: dict[str, str] = field(default_factory=dict)


def judge(
    params: PromoteParams, version: Evidence, champion: Evidence | None, footprint: Footprint | None = None
) -> list[Check]:
    """Make all checks of promotion; without a champion, or with one of another test set, floors and ceilings alone.

    Args:
        footprint: needed where `params` has a ceiling.

    Raises:
        UserError: the two per-image tables aren't of the same test images.
    """
    alone = [*_floors(params, version), *(_ceilings(params, footprint) if footprint else [])]
    if champion is None:
        return alone
    same = _identity_of(version) == _identity_of(champion)
    identity = Check(name="same test set", passed=same, detail=_identity(version, champion))
    return [identity, *alone, *(_against(params, version, champion) if same else [])]


def _floors(params: PromoteParams, version: Evidence) -> list[Check]:
    """Check that mean Dice and IoU on test reach their floors."""
    test = version.evaluation.test
    return [
        Check(
            name=f"test {name} floor",
            passed=mean >= floor,
            value=mean,
            limit=floor,
            detail=f"mean {name} on test {mean:.4f}, at least {floor:.4f}",
        )
        for name, mean, floor in (
            ("Dice", test.dice.mean, params.min_test_dice),
            ("IoU", test.iou.mean, params.min_test_iou),
        )
    ]


def _ceilings(params: PromoteParams, footprint: Footprint) -> list[Check]:
    """Check that parameters, weights and time are within the ceilings that `params` has."""
    cost = footprint.cost
    asked = [
        ("parameters", footprint.parameters, params.max_parameters, "{:,.0f}", ""),
        ("weights", footprint.weights_mib, params.max_weights_mib, "{:.2f} MiB", ""),
        ("time an image", cost and cost.milliseconds_an_image, params.max_milliseconds, "{:.1f} ms",
         f" ({cost.where})" if cost else ""),
    ]  # fmt: skip
    return [
        Check(
            name=name,
            passed=value <= limit,
            value=value,
            limit=limit,
            detail=f"{shown.format(value)}, at most {shown.format(limit)}{where}",
        )
        for name, value, limit, shown, where in asked
        if limit is not None and value is not None
    ]


def _against(params: PromoteParams, version: Evidence, champion: Evidence) -> list[Check]:
    """Make the checks that compare a version with the champion image by image on test."""
    from segops.comparison.paired import Judged, paired_interval, paired_rows

    judged, other = (Judged(str(each.version), each.per_image) for each in (version, champion))
    pairs = paired_rows(judged, other, "test")
    found = paired_interval(pairs, params)
    checks = [
        _non_inferior(params, found, len(pairs)),
        *_false_positives(params, judged, other, class_columns(version.evaluation.classes)),
        *_gain(params, found.mean),
        _above_noise(params, found.mean, version),
        *_subgroups(params, subgroups(pairs, min_group_images=params.min_subgroup_images)),
    ]
    for name in version.evaluation.shown_classes:
        own = class_columns(version.evaluation.classes)[name]
        checks.append(_no_worse(params, f"class {name}", paired_rows(judged, other, "test", own)))
    return checks


def _false_positives(
    params: PromoteParams, version: Judged, champion: Judged, classes: Mapping[str, ClassColumns]
) -> list[Check]:
    """Check that foreground and each class aren't predicted more often than by the champion where there is none.

    The rise in the share of images may be `subgroup_margin`; with few images it isn't judged.
    """
    from segops.comparison.paired import same_images
    from segops.evaluation.presence import false_positive_share, in_truth

    tables = same_images(version, champion, "test")
    checks = []
    for name, own in {"": None, **{f" of {name}": own for name, own in classes.items()}}.items():
        mine, theirs = (false_positive_share(table, own) for table in tables)
        if mine is None or theirs is None:
            continue  # every image has it
        rise, images = round(mine - theirs, 9), int((~in_truth(tables[0], own)).sum())
        judged = images >= params.min_subgroup_images
        limit = f"at most {params.subgroup_margin:+.4f}" if judged else _FEW.format(params.min_subgroup_images)
        checks.append(
            Check(
                name=f"false positives{name}",
                passed=rise <= params.subgroup_margin if judged else None,
                value=rise,
                limit=params.subgroup_margin,
                detail=(
                    f"predicted in {mine:.1%} of {images} test images that have none, by the champion in {theirs:.1%}, "
                    f"a change of {rise:+.4f}, {limit}"
                ),
            )
        )
    return checks


def _identity_of(evidence: Evidence) -> tuple[str, list[str]]:
    """Return what two versions must share to be compared: the test set, and the classes where several are scored."""
    return evidence.evaluation.test_sha256, evidence.evaluation.shown_classes


def _identity(version: Evidence, champion: Evidence) -> str:
    """Say on which test sets, and for which classes where they differ, the two versions were scored."""
    (mine, my_classes), (theirs, their_classes) = _identity_of(version), _identity_of(champion)
    shown = f"version {version.version} on {mine[:12]}, champion {champion.version} on {theirs[:12]}"
    if my_classes == their_classes:
        return shown
    classes = [", ".join(evidence.evaluation.classes) for evidence in (version, champion)]
    return f"{shown}; their classes differ: {classes[0]} against {classes[1]}"


def _non_inferior(params: PromoteParams, found: Interval, images: int) -> Check:
    """Check that the low end of the paired difference lies above minus the margin.

    The low end decides, since it lies above the truth in at most half of 1 - confidence; the mean does in half.
    """
    name, limit = "not worse than the champion", -params.margin
    difference = f"paired difference in test Dice {found.mean:+.4f}"
    if found.low is None or found.groups < params.min_groups:
        few = f"not judged: {found.groups} {'group' if found.groups == 1 else 'groups'}"
        detail = f"{few}, promote.min_groups is {params.min_groups} ({difference}, {images} images)"
        return Check(name=name, passed=False, value=found.low, limit=limit, detail=detail)
    return Check(
        name=name,
        passed=found.low > limit,
        value=found.low,
        limit=limit,
        detail=(
            f"{difference} ({params.confidence:.0%} interval {found.range_words(4, signed=True)}, {images} images in "
            f"{found.groups} groups), low end above {limit:+.4f}"
        ),
    )


def _gain(params: PromoteParams, gain: float) -> list[Check]:
    """Check that the paired gain reaches `min_gain`; no check where none is asked."""
    if params.min_gain is None:
        return []
    detail = f"paired gain in test Dice {gain:+.4f}, at least {params.min_gain:+.4f}"
    return [Check(name="gain", passed=gain >= params.min_gain, value=gain, limit=params.min_gain, detail=detail)]


def _above_noise(params: PromoteParams, gain: float, version: Evidence) -> Check:
    """Check that the gain is more than another seed could have made.

    It is judged where a gain is asked and the noise was measured.
    """
    name, noise = "gain above the noise of seeds", version.noise
    if noise is None:
        detail = f"the noise isn't measured: not judged; `segops noise {version.evaluation.candidate}` measures it"
        return Check(name=name, passed=None, value=gain, detail=detail)
    asked = params.min_gain is not None
    return Check(
        name=name,
        passed=gain > noise.floor if asked else None,
        value=gain,
        limit=noise.floor,
        detail=(
            f"gain {gain:+.4f}, above {noise.floor:+.4f}: 95 % of trainings that differ by their seed alone lie closer "
            f"(deviation {noise.deviation:.4f} of {len(noise.seeds)} seeds on validation)"
            f"{'' if asked else '; not judged, since min_gain is null'}"
        ),
    )


def _subgroups(params: PromoteParams, found: Sequence[Subgroup]) -> list[Check]:
    """Make one check for each modality and size; groups can be hundreds, so they share a check."""
    checks = [_no_worse(params, f"{part.kind} {part.name}", part.rows) for part in found if part.kind != "group"]
    changes = {part.name: _change(part.rows) for part in found if part.kind == "group"}
    return [*checks, _groups(params, changes)] if changes else checks


def _groups(params: PromoteParams, changes: dict[str, float]) -> Check:
    """Make one check of the lowest change of mean Dice over all groups."""
    fallen = sorted((change, name) for name, change in changes.items() if change < -params.subgroup_margin)
    worst = min(changes.values())
    more = f" and {len(fallen) - _NAMED} more" if len(fallen) > _NAMED else ""
    names = "; fell: " + ", ".join(f"{name} {change:+.4f}" for change, name in fallen[:_NAMED]) if fallen else ""
    return Check(
        name="groups",
        passed=not fallen,
        value=worst,
        limit=-params.subgroup_margin,
        detail=(
            f"lowest change of mean Dice {worst:+.4f} in {len(changes)} groups of at least "
            f"{params.min_subgroup_images} images, not below {-params.subgroup_margin:+.4f}{names}{more}"
        ),
    )


def _no_worse(params: PromoteParams, name: str, rows: pd.DataFrame) -> Check:
    """Check that mean Dice of a subgroup or class doesn't fall by more than the margin.

    With few images the change is shown and not judged.
    """
    if not len(rows):
        return Check(name=name, passed=None, detail="no test image has it: not judged")
    change = _change(rows)
    judged = len(rows) >= params.min_subgroup_images
    why = f"not below {-params.subgroup_margin:+.4f}" if judged else _FEW.format(params.min_subgroup_images)
    groups = rows["group_id"].nunique()
    where = f"{len(rows)} images of {groups} {'group' if groups == 1 else 'groups'}"
    return Check(
        name=name,
        passed=change >= -params.subgroup_margin if judged else None,
        value=change,
        limit=-params.subgroup_margin,
        detail=f"change of mean Dice {change:+.4f} on {where}, {why}",
    )


def _change(rows: pd.DataFrame) -> float:
    """Return the mean change of Dice of paired rows."""
    return float(rows["change"].mean())
