"""Holds the rules of a plan for volumes, after nnU-Net's (Isensee et al. 2021; `default_experiment_planner.py` of v2).

Two candidates are planned, so that the two ways to see a volume are compared: `unet_3d` sees patches, `slices` is a
network for images (`planning.slice_rules`). Each gets half of the minutes.

Rules that volumes share with pictures are those of `planning.rules`. As there, a rule's docstring is its line in
docs/reference/plan.md.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np

from segops.params.levels import plan_levels
from segops.planning.cost import STEP_GFLOPS, TRAIN_COST, cost_of
from segops.planning.decisions import Decision, Decisions, Facts, Plan

_ANISOTROPIC = 3  # nnU-Net's ANISO_THRESHOLD
_FINER_PERCENTILE = 10
_INITIAL_VOXELS = 256**3  # of a patch, before memory and time cut it
_MOST_LEVELS, _FILTERS = 5, 16
_BATCH = 2
_STEP_S = 10.0  # of a training step, at most
_WINDOWS = 8  # times the voxels, in windows that overlap by half
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 150
_HOUNSFIELD = -500  # values below it are air in CT
SLICES_MODEL = {"architecture": "resunet", "filters": [16, 32, 64, 128, 256]}
PATCHES = "unet_3d"
_OF_PATCHES = f"candidates.{PATCHES}."


def volume_clip(facts: Facts, plan: Plan) -> Decisions:
    """`input.clip`, `normalize`: of CT, which holds values below -500, percentiles 0.5 and 99.5 of the training
    foreground, then its mean and deviation; of others each volume's own percentiles."""
    lowest = min(image.low for image in facts.look.images)
    if lowest < _HOUNSFIELD:
        why = f"values from {lowest:.0f}: HU, of which the foreground's range counts; a window such as [-160, 240] too"
        yield Decision("candidates.*.input.clip", {"percentiles": [0.5, 99.5], "over": "foreground"}, why)
    else:
        why = "values in units of their own, as of MR, which differ from volume to volume"
        yield Decision("candidates.*.input.clip", {"percentiles": [0.5, 99.5]}, why)
    yield Decision("candidates.*.input.normalize", "zscore_dataset", "mean and deviation of the training volumes")


def spacing(facts: Facts, plan: Plan) -> Decisions:
    """`input.spacing_mm`: the median along each axis; where an axis is more than three times as coarse as the others
    and has less than a third of their voxels, its 10th percentile; native where a file doesn't say its spacing."""
    known = [image.spacing_mm for image in facts.look.images if image.spacing_mm is not None]
    if len(known) < len(facts.look.images):
        why = f"{len(facts.look.images) - len(known)} volumes don't say it; ingest.spacing_mm would"
        yield Decision(f"{_OF_PATCHES}input.spacing_mm", None, why, sure=False)
        return
    target_mm = target_spacing(known, sizes_of(facts))
    finer = target_mm != np.median(known, axis=0).tolist()
    why = f"median of {facts.look.of}{f', of the coarse axis the {_FINER_PERCENTILE}th percentile' if finer else ''}"
    yield Decision(f"{_OF_PATCHES}input.spacing_mm", [round(value, 4) for value in target_mm], why)


def target_spacing(spacings_mm: Any, sizes_DHW: Any) -> list[float]:
    """Return the spacing that volumes are resampled to (nnU-Net's `determine_fullres_target_spacing`).

    Args:
        spacings_mm: of each volume, N3.
        sizes_DHW: its voxels, N3.
    """
    target, size = np.median(spacings_mm, axis=0), np.median(sizes_DHW, axis=0)
    coarse = int(np.argmax(target))
    finest_of_others = float(max(np.delete(target, coarse)))
    far = target[coarse] > _ANISOTROPIC * finest_of_others
    if far and size[coarse] * _ANISOTROPIC < min(np.delete(size, coarse)):
        finer = float(np.percentile(np.asarray(spacings_mm)[:, coarse], _FINER_PERCENTILE))
        target[coarse] = max(finest_of_others, finer)
    return [float(value) for value in target]


def patch(facts: Facts, plan: Plan) -> Decisions:
    """`input.resize`, `size`, `model`: patches shaped as the median volume at that spacing, as large as memory holds
    two of and a training step takes ten seconds for; as many levels, up to five, as halve the patch; unet_3d of 16
    channels, doubled from level to level; of slices resunet of 16 to 256."""
    target_mm = plan[f"{_OF_PATCHES}input.spacing_mm"] or [1.0, 1.0, 1.0]
    known = plan[f"{_OF_PATCHES}input.spacing_mm"] is not None
    scale = [np.array(image.spacing_mm) / target_mm if known else np.ones(3) for image in facts.look.images]
    median = np.median([size * factor for size, factor in zip(sizes_of(facts), scale, strict=True)], axis=0)
    size = [min(a, b) for a, b in zip(_initial(target_mm), median.round().astype(int).tolist(), strict=True)]
    budget = facts.budget
    while True:
        fitted, model = _fitted(size, target_mm)
        gflops, mib = patch_cost(facts, plan, model, fitted, target_mm)
        slow = _BATCH * TRAIN_COST * gflops / budget.gflops_a_second > _STEP_S
        if min(size) <= 8 or not (slow or _BATCH * mib > budget.memory_gib * 1024):
            break
        size[int(np.argmax(np.array(size) / median))] -= 8
    yield Decision(f"{_OF_PATCHES}input.resize", "none", "patches of volumes")
    shape = "x".join(str(int(side)) for side in median)
    why = f"of a median volume of {shape} voxels; two take {_BATCH * mib / 1024:.1f} GiB"
    yield Decision(f"{_OF_PATCHES}input.size", fitted, why)
    yield Decision(f"{_OF_PATCHES}input.window_overlap", 0.5, "windows are blended by a Gaussian")
    why = f"{model['depth'] + 1} levels: the patch can be halved {model['depth']} times"
    yield Decision("candidates.*.model", {PATCHES: model, "slices": SLICES_MODEL}, why)


def volume_epochs(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.batch_size`, `patches_per_image`, `epochs`, `ema_decay`: batches of two; patches that cover the median
    volume, up to 16; what half of the minutes holds at the stated speed, at most 150; a mean over a twentieth of the
    steps."""
    size, target_mm = plan[f"{_OF_PATCHES}input.size"], plan[f"{_OF_PATCHES}input.spacing_mm"] or [1.0, 1.0, 1.0]
    known = plan[f"{_OF_PATCHES}input.spacing_mm"] is not None
    voxels = [
        math.prod(sides) * (math.prod(image.spacing_mm) / math.prod(target_mm) if known and image.spacing_mm else 1)
        for sides, image in zip(sizes_of(facts), facts.look.images, strict=True)
    ]
    cover = math.ceil(float(np.median(voxels)) / math.prod(size))
    patches = min(16, max(2, cover))
    yield Decision(f"{_OF_PATCHES}recipe.batch_size", _BATCH, "as nnU-Net's smallest")
    yield Decision(f"{_OF_PATCHES}recipe.patches_per_image", patches, f"{cover} would cover a median volume")
    shown = facts.train_images * patches
    passes = TRAIN_COST * shown + facts.train_images / 3 * cover * (_WINDOWS if cover > 1 else 1)
    gflops, _ = patch_cost(facts, plan, plan["candidates.*.model"][PATCHES], size, target_mm)
    yield from epochs_in(_OF_PATCHES, facts, gflops * passes, shown // _BATCH)


def epochs_in(candidate: str, facts: Facts, gflops: float, steps: int) -> Decisions:
    """Yield the epochs that half of the minutes holds, and the decay of the mean over weights.

    Args:
        candidate: what its params begin with.
        gflops: of an epoch's passes.
        steps: of an epoch.
    """
    budget = facts.budget
    fit = budget.minutes / 2 * 60 * budget.gflops_a_second / (gflops + max(1, steps) * STEP_GFLOPS)
    count = max(1, min(_MOST_EPOCHS, int(fit)))
    why = f"half of {budget.minutes:g} minutes at {budget.gflops_a_second:g} GFLOP/s"
    if fit < _FEWEST_EPOCHS:
        why += f" is little; {_FEWEST_EPOCHS} epochs take {_FEWEST_EPOCHS / fit * budget.minutes / 2:.0f}"
    yield Decision(f"{candidate}recipe.epochs", count, why, sure=fit >= _FEWEST_EPOCHS)
    steps = max(1, count * steps)
    yield Decision(f"{candidate}recipe.ema_decay", round(min(0.99, max(0.8, 1 - 20 / steps)), 2), f"of {steps} steps")


def oversampling(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.foreground_patches`: a third of the patches hold foreground for sure."""
    yield Decision(f"{_OF_PATCHES}recipe.foreground_patches", 0.33, "as nnU-Net's")


def volume_augment(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.augment`: flips, a zoom, brightness and contrast; no quarter turns, since patients lie the same way."""
    value = {"rot90": False, "brightness": 0.1, "contrast": 0.1, "scale": 0.2}
    yield Decision("candidates.*.recipe.augment", value, "flips are on; off where left and right differ")


def sizes_of(facts: Facts) -> list[tuple[int, int, int]]:
    """Return the voxels of each volume that was looked at."""
    return [(image.depth, image.height, image.width) for image in facts.look.images]


def _initial(target_mm: list[float]) -> list[int]:
    """Return a patch as large in mm along each axis, of _INITIAL_VOXELS."""
    per_mm = 1 / np.array(target_mm)
    return [round(float(side)) for side in per_mm * (_INITIAL_VOXELS / per_mm.prod()) ** (1 / 3)]


def _fitted(size: list[int], target_mm: list[float]) -> tuple[list[int], dict[str, Any]]:
    """Return a patch, enlarged to what its levels halve, and the model of as many levels as it has."""
    for count in range(_MOST_LEVELS, 1, -1):
        try:
            levels = plan_levels(size, target_mm, count)
        except ValueError:
            continue
        multiples = np.prod([level.stride for level in levels], axis=0).tolist()
        fitted = [math.ceil(side / multiple) * multiple for side, multiple in zip(size, multiples, strict=True)]
        model = {"architecture": "unet_3d", "base_filters": _FILTERS, "depth": count - 1}
        return [max(4, side) for side in fitted], model
    return [max(8, side) for side in size], _fitted([8, 8, 8], [1.0, 1.0, 1.0])[1]


def patch_cost(
    facts: Facts, plan: Plan, model: dict[str, Any], size: list[int], target_mm: list[float]
) -> tuple[float, float]:
    """Return the GFLOPs of a forward pass of a patch, and the MiB that its training step holds."""
    channels_of = plan["candidates.*.input.channels"]
    return _cost(json.dumps(model), channels_of, len(facts.classes.names), tuple(size), tuple(target_mm))


@cache
def _cost(
    model_text: str, channels_of: int, classes: int, size: tuple[int, ...], target_mm: tuple[float, ...]
) -> tuple[float, float]:
    """Count a network's arithmetic and activations on a patch."""
    import torch

    from segops.models.catalogue import build_network
    from segops.params.candidate import CandidateParams

    given = {"size": list(size), "spacing_mm": list(target_mm), "resize": "none", "channels": channels_of}
    params = CandidateParams.model_validate({"model": json.loads(model_text), "input": given})
    with torch.device("meta"):
        network = build_network(params, classes)
    return cost_of(network, channels_of, size)
