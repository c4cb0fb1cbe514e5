"""The figures of a run by name: a subset's scores, of each class and of each subgroup of its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segops.contracts.per_image import DISTANCES
from segops.contracts.scores import Interval, SubsetScores, mean_of
from segops.contracts.tables import slugs
from segops.evaluation.subgroups import Subgroup, subgroups

if TYPE_CHECKING:
    import pandas as pd

_MIN_GROUP_IMAGES = 5  # a mean over fewer says little
_MOST_OF_A_KIND = 6  # subgroups that are shown; those with the most images, whatever they score


def subset_scores(scores: SubsetScores, classes: Sequence[str]) -> dict[str, float | None]:
    """Return a subset's figures by metric name, overall and by class.

    Dice comes with its interval and the number of groups behind it.

    Args:
        classes: the foreground classes that get figures of their own, such as `class_dice_<class>`.
    """
    dice = scores.dice
    named: dict[str, float | None] = {"dice_low": dice.low, "dice_high": dice.high, "dice_groups": float(dice.groups)}
    for name, value in scores:
        if isinstance(value, Interval):
            named[name] = value.mean
        elif value is None or isinstance(value, float):
            named[name] = value
    if scores.instances:
        named |= {"ap": scores.instances.ap.mean, "ap50": scores.instances.ap50.mean}
        named["pq"] = mean_of(scores.instances.pq)
    if scores.micrometres:
        named |= {f"{name}_um": getattr(scores.micrometres, f"{name}_um") for name in DISTANCES}
    if scores.volumes:
        volumes = scores.volumes
        named |= {name: getattr(volumes, name) for name in ("hd95_mm", "hd_mm", "assd_mm")}
        named["surface_dice"] = mean_of(volumes.surface_dice)
        biases = zip(slugs(list(volumes.volume_ml)), volumes.volume_ml.values(), strict=True)
        named |= {f"volume_bias_ml_{slug}": agreement.bias_ml for slug, agreement in biases}
    for name, slug in zip(classes, slugs(classes), strict=True):
        own = scores.by_class[name]
        named |= {f"class_dice_{slug}": mean_of(own.dice), f"class_iou_{slug}": mean_of(own.iou)}
        named[f"class_false_positive_share_{slug}"] = own.false_positive_share
    return named


def subgroup_dice(table: pd.DataFrame) -> dict[str, float | None]:
    """Compute mean Dice of each subgroup as `dice_<kind>_<name>`: `dice_modality_fluorescence`, `dice_size_257_512_px`.

    Which subgroups are shown depends on the images alone, so that all candidates of one data set have the same.

    Args:
        table: a subset's rows of per_image.csv.
    """
    return {
        f"dice_{subgroup.kind}_{slug}": float(subgroup.rows["dice"].mean())
        if subgroup.rows["dice"].notna().any()
        else None
        for kind in _by_kind(table)
        for subgroup, slug in zip(kind, slugs([subgroup.name for subgroup in kind]), strict=True)
        for dice in [subgroup.rows["dice"]]
    }


def _by_kind(table: pd.DataFrame) -> list[list[Subgroup]]:
    """Group the subgroups of a table by kind and keep the largest of each kind."""
    found: dict[str, list[Subgroup]] = {}
    for subgroup in subgroups(table, min_group_images=_MIN_GROUP_IMAGES):
        found.setdefault(subgroup.kind, []).append(subgroup)
    return [_largest(kind) for kind in found.values()]


def _largest(kind: list[Subgroup]) -> list[Subgroup]:
    """Keep the subgroups with the most images, at most `_MOST_OF_A_KIND`, in their given order."""
    kept = sorted(range(len(kind)), key=lambda at: -len(kind[at].rows))[:_MOST_OF_A_KIND]
    return [kind[at] for at in sorted(kept)]
