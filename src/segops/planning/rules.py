"""Holds the rules of a plan, in their order: each turns the facts of a source into values of params.

To change what `segops init` proposes, change a rule, take it out of RULES or add another. A rule's docstring is its
line in docs/reference/plan.md: params, then what they become. A decision's words name the reason for this source.
"""

from __future__ import annotations

import math
from typing import Any

from segops.contracts.base import SUBSET_NAMES
from segops.data.images import OWN_UNITS
from segops.params.promote import FEWEST_GROUPS
from segops.planning.baseline import baseline
from segops.planning.decisions import Decision, Decisions, Facts, Plan, Rule
from segops.planning.figures import (
    FOLDS,
    LARGEST_SHARE,
    MULTIPLE_PX,
    allowed_shrink,
    best_seed,
    empty_share,
    epochs_that_fit,
    input_cost,
    patches_that_cover,
    round_up,
    samples,
    similar_sizes,
    too_few_groups,
)

_LARGEST_INPUT_PX = 512  # of whole images, in training on a CPU
_PATCH_PX = 256
_SHARES = ([0.7, 0.15, 0.15], [0.6, 0.2, 0.2], [1 - 2 * LARGEST_SHARE, LARGEST_SHARE, LARGEST_SHARE])
_FULL_RANGE = 0.5  # of full scale, between percentiles; less is stretched
_FEWEST_EPOCHS, _ENOUGH_EPOCHS, _MOST_EPOCHS = 10, 20, 150
_SMALLEST_BATCH, _LARGEST_BATCH = 4, 16
_STEPS_AN_EPOCH = 8  # at least, by a smaller batch
_DTYPES = ("uint8", "uint16", "int16", "float32")
_LARGE: dict[str, Any] = {
    "resunet": {"architecture": "resunet", "filters": [16, 32, 64, 128, 256]},
    "unet": {"architecture": "unet", "base_filters": 32, "batch_norm": True},
}
_SMALL: dict[str, Any] = {
    "resunet": {"architecture": "resunet", "filters": [8, 16, 32, 64, 128]},
    "unet": {"architecture": "unet", "base_filters": 16, "batch_norm": True},
}


def source(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.source`, `sha256`: as given, with an archive's hash, so that another file under its name is noticed."""
    spacing = sorted({seen.spacing for seen in facts.look.images if seen.spacing})
    pixels = f"; pixels of {' or '.join(spacing[:3])}" if spacing else ""
    faults = f"; {len(facts.look.faults)} can't be read: {facts.look.faults[0]}" if facts.look.faults else ""
    why = f"{facts.look.of} with masks looked at{pixels}{faults}"
    yield Decision("ingest.source", facts.uri, why, sure=not faults)
    if facts.sha256:
        yield Decision("ingest.sha256", facts.sha256, "another file under this name is refused")


def names(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.name`, `licence`, `tracking.model_name`: the source's last part; `unknown`, to be stated; a new model."""
    yield Decision("ingest.name", facts.name, "from the source's name")
    yield Decision("ingest.licence", "unknown", "state it: reports and model cards pass it on", sure=False)
    yield Decision("tracking.model_name", f"{facts.name}-segmentation", "a registered model of its own")


def layout(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.layout`, `images`, `masks`, `table`, `stack`, `slices`, `unpaired`, `ignore_classes`: the first of the
    Decathlon, DICOM, folders of slices, table, nnU-Net, BIDS, DSB2018, folders and globs that pairs all image files,
    else that pairs most."""
    pairing = facts.pairing
    left = f"; {len(pairing.unused)} other image files aren't used" if pairing.unused else ""
    yield Decision("ingest.layout", pairing.params["layout"], f"{pairing.why}{left}", pairing.sure)
    masks = len({name for example in facts.examples for name in example.pair.masks})
    reasons = {
        "images": f"{len(facts.examples)} images",
        "masks": f"{masks} masks",
        "stack": "one file or series a channel",
    }
    reasons["slices"] = "a folder is a volume"
    reasons["ignore_classes"] = "QuPath's and labelme's names of what is no class"
    for param, value in pairing.params.items():
        if param not in ("layout", "mask_kind", "mask_values"):
            yield Decision(f"ingest.{param}", value, reasons.get(param, "as the files are"))


def mask_values(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.mask_kind`, `mask_values`, `stray_values`: values in a piece each, many or counted from 1, are ids of
    objects; few values are classes, to be named; rare values near frequent ones are strays, as JPEG leaves."""
    params = facts.classes.params
    if "mask_kind" in params:
        yield Decision("ingest.mask_kind", params["mask_kind"], facts.classes.why)
    yield Decision("ingest.mask_values", params["mask_values"], facts.classes.why, facts.classes.sure)
    if "stray_values" in params:
        yield Decision("ingest.stray_values", params["stray_values"], "what lies between the listed values")


def groups(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.group_by`, `group_pattern`: the layout's folders or column, else the word of a patient, animal or slide
    in names, else tiles whose edges continue one another, else names of slices, tiles, sides, else counters."""
    grouping = facts.grouping
    yield Decision("ingest.group_by", grouping.group_by, grouping.why, grouping.sure)
    if grouping.pattern:
        yield Decision("ingest.group_pattern", grouping.pattern, "its first group, on the image id")


def limits(facts: Facts, plan: Plan) -> Decisions:
    """`validate.channels`, `dtypes`: what files have, so that others are noticed; `min_images`, `min_size_px`,
    `allow_empty_masks` where the usual limits would refuse what is meant."""
    seen = facts.look.images
    yield Decision("validate.channels", sorted({image.channels for image in seen}), f"of {facts.look.of}")
    dtypes = {image.dtype for image in seen}
    yield Decision("validate.dtypes", [name for name in _DTYPES if name in dtypes], f"of {facts.look.of}")
    if (count := len(facts.examples)) < 10:
        yield Decision("validate.min_images", count, f"only {count} images: expect little")
    if (shortest := min(min(size) for size in facts.sizes_hw)) < 32:
        yield Decision("validate.min_size_px", shortest, "the shortest side there is")
    if (empty := empty_share(facts)) > 0.1:
        yield Decision("validate.allow_empty_masks", True, f"{empty:.0%} of the images show nothing")


def subsets(facts: Facts, plan: Plan) -> Decisions:
    """`ingest.subset_folders`, `split.protocol`: where folders are called train and test, their subsets are kept, and a
    person is asked whether the split should be theirs."""
    folders = {part for example in facts.examples for part in example.pair.image.split("/")[:-1]}
    given = {folder: SUBSET_NAMES[folder.lower()] for folder in sorted(folders) if folder.lower() in SUBSET_NAMES}
    if {"train", "test"} <= set(given.values()):
        yield Decision("ingest.subset_folders", given, "the data come with subsets; split.protocol: given takes them")
        yield Decision("split.protocol", "grouped", "given takes the folders' own subsets", sure=False)


def fractions(facts: Facts, plan: Plan) -> Decisions:
    """`split.fractions`: 0.15 for val and for test, up to 0.25 each until both have about 11 groups, since the gate
    judges on 10."""
    count = facts.grouping.count
    enough = [shares for shares in _SHARES if shares[2] * count >= 1.1 * FEWEST_GROUPS]
    why = f"train, val, test of {count} groups"
    if not enough:
        why = (
            f"{count} groups are too few to hold out {FEWEST_GROUPS} twice: the gate won't judge; see cross_validation"
        )
    yield Decision("split.fractions", enough[0] if enough else _SHARES[1], why, sure=bool(enough))


def seed(facts: Facts, plan: Plan) -> Decisions:
    """`split.seed`: of the first 500 seeds that give val and test enough groups, the one nearest to the fractions in
    groups and images."""
    best, counts = best_seed(facts, tuple(plan["split.fractions"]))
    known = "" if facts.grouping.group_by != "fields" or facts.look.complete else "; ingest finds the other fields"
    yield Decision("split.seed", best, f"groups of train, val, test: {', '.join(map(str, counts))}{known}")


def cross_validation(facts: Facts, plan: Plan) -> Decisions:
    """`cross_validation`: recommended where the groups are too few for the gate, not set, since it costs a training a
    fold."""
    if too_few_groups(facts):
        why = f"scores would score each image outside test once, for {1 + FOLDS} times the minutes"
        yield Decision("candidates.*.cross_validation", "none", why, sure=False)


def channels(facts: Facts, plan: Plan) -> Decisions:
    """`input.channels`: 1 for grey images and RGB whose channels are equal, 3 for colour, else the files' number."""
    if all(image.grey for image in facts.look.images):
        yield Decision("candidates.*.input.channels", 1, f"{facts.look.of} are grey")
        return
    most = max(image.channels for image in facts.look.images)
    yield Decision("candidates.*.input.channels", most, "colour" if most == 3 else "as the files have")


def clip(facts: Facts, plan: Plan) -> Decisions:
    """`input.clip`: percentiles 0.5 and 99.5 of each image for int16 and float32, and where the median image spans less
    than half the full scale of its bits."""
    seen = facts.look.images
    if any(image.dtype in OWN_UNITS for image in seen):
        why = "values in units of their own; a window such as [-160, 240] would fit HU better"
        yield Decision("candidates.*.input.clip", {"percentiles": [0.5, 99.5]}, why, sure=False)
        return
    span = sorted((image.high - image.low) / facts.full_scale(image.dtype) for image in seen)[len(seen) // 2]
    if span < _FULL_RANGE:
        top = max(image.top for image in seen)
        why = f"the median image spans {span:.0%} of full scale; the largest value is {top:.0f}"
        yield Decision("candidates.*.input.clip", {"percentiles": [0.5, 99.5]}, why)


def size(facts: Facts, plan: Plan) -> Decisions:
    """`input.resize`, `size`: whole images up to 256 pixels, larger ones shrunk towards 256 as far as thin objects stay
    8 pixels wide; where that leaves more than 512, native patches of 256. Pad where aspect ratios differ."""
    height, width = facts.median_hw
    shrink = allowed_shrink(facts)
    what = f"median {height}x{width}, thin objects {facts.thickness_px or 0:.0f} px wide"
    if max(height, width) / shrink > _LARGEST_INPUT_PX:
        side = min(_PATCH_PX, round_up(min(height, width)))
        yield Decision("candidates.*.input.resize", "none", f"{what}: too thin to shrink; native patches")
        yield Decision("candidates.*.input.size", side, "of a patch")
        return
    ratios = [height / width for height, width in facts.sizes_hw]
    if max(ratios) / min(ratios) > 1.25:
        why = f"{what}, height/width {min(ratios):.2f} to {max(ratios):.2f}"
        yield Decision("candidates.*.input.resize", "pad", why)
    else:
        why = f"{what}, sizes {'nearly equal' if similar_sizes(facts) else 'differ'}"
        yield Decision("candidates.*.input.resize", "stretch", why)
    shrink = min(shrink, max(1.0, max(height, width) / _PATCH_PX))
    sides = [max(MULTIPLE_PX, round_up(side / shrink)) for side in (height, width)]
    why = f"the median {f'shrunk by {shrink:.1f}' if shrink > 1 else 'size'}, up to a multiple of {MULTIPLE_PX}"
    yield Decision("candidates.*.input.size", sides[0] if sides[0] == sides[1] else sides, why)


def patches(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.patches_per_image`: as many an epoch as cover an image, up to 32; fewer where the minutes hold less than
    10 epochs of them."""
    if plan["candidates.*.input.resize"] != "none":
        return
    cover = min(32, max(2, patches_that_cover(facts, plan)))
    yield Decision("candidates.*.recipe.patches_per_image", cover, "cover an image")
    fit = epochs_that_fit(facts, plan, _SMALL)
    if fit < _FEWEST_EPOCHS:
        fewer = max(1, int(cover * fit / _FEWEST_EPOCHS))
        why = f"{cover} would cover an image, for {fit:.1f} epochs in the minutes"
        yield Decision("candidates.*.recipe.patches_per_image", fewer, why)


def model(facts: Facts, plan: Plan) -> Decisions:
    """`model`: resunet of 16 to 256 and unet of 32 to 512 channels where 20 epochs fit into the minutes, else half of
    that."""
    fit = epochs_that_fit(facts, plan, _LARGE)
    models = _LARGE if fit >= _ENOUGH_EPOCHS else _SMALL
    what = "so it is halved" if models is _SMALL else "so it stays"
    yield Decision("candidates.*.model", models, f"{int(fit)} epochs of the usual width fit into the minutes, {what}")


def epochs(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.batch_size`, `epochs`, `ema_decay`: a power of two from 4 to 16 that memory holds and that leaves 8 steps
    an epoch; what the minutes hold at the stated speed, at most 150; a mean over a twentieth of the steps."""
    budget = facts.budget
    memory_mib = max(input_cost(facts, plan, model)[1] for model in plan["candidates.*.model"].values())
    fits = min(budget.memory_gib * 1024 / memory_mib, samples(facts, plan) / _STEPS_AN_EPOCH, _LARGEST_BATCH)
    batch = 2 ** int(math.log2(max(_SMALLEST_BATCH, fits)))
    why = f"a step holds {batch * memory_mib / 1024:.1f} GiB of {budget.memory_gib:g}"
    yield Decision("candidates.*.recipe.batch_size", batch, why)
    fit = epochs_that_fit(facts, plan, plan["candidates.*.model"])
    count = max(1, min(_MOST_EPOCHS, int(fit)))
    why = f"{budget.minutes:g} minutes for all candidates at {budget.gflops_a_second:g} GFLOP/s"
    if fit < _FEWEST_EPOCHS:
        why += f" are few; {_FEWEST_EPOCHS} epochs take {_FEWEST_EPOCHS / fit * budget.minutes:.0f}"
    yield Decision("candidates.*.recipe.epochs", count, why, sure=fit >= _FEWEST_EPOCHS)
    steps = max(1, count * samples(facts, plan) // batch)
    decay = round(min(0.99, max(0.8, 1 - 20 / steps)), 2)
    yield Decision("candidates.*.recipe.ema_decay", decay, f"of about {steps} steps")


def output_bias(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.output_bias`: the logit of the classes' mean share of pixels."""
    background, *others = facts.classes.shares
    share = max(sum(others) / len(others), 1e-4)
    bias = math.log(share / max(1 - share if len(others) == 1 else background, 1e-4))
    why = f"foreground is {sum(others):.1%} of the pixels"
    yield Decision("candidates.*.recipe.output_bias", round(max(-5.0, min(2.0, bias)), 1), why)


def foreground(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.foreground_images`, `foreground_patches`: a third of the images (half of the patches) drawn among those
    with foreground where a fifth shows nothing."""
    if (empty := empty_share(facts)) >= 0.2:
        by_patch = plan["candidates.*.input.resize"] == "none"
        param, drawn = ("foreground_patches", 0.5) if by_patch else ("foreground_images", 0.33)
        yield Decision(f"candidates.*.recipe.{param}", drawn, f"{empty:.0%} of the images show nothing")


def augment(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.augment`: flips, turns of square inputs, brightness and contrast; of patches a zoom too."""
    value: dict[str, Any] = {"brightness": 0.1, "contrast": 0.1}
    if not isinstance(plan["candidates.*.input.size"], int):
        value = {"rot90": False, **value}
    if plan["candidates.*.input.resize"] == "none":
        value["scale"] = 0.2
    yield Decision("candidates.*.recipe.augment", value, "flips are on; off where left and right differ")


def instances(facts: Facts, plan: Plan) -> Decisions:
    """`inference.instances`: a watershed with seeds half a width apart, where the source tells objects apart."""
    if facts.classes.objects and facts.thickness_px:
        value = {"method": "watershed", "seed_distance_px": max(2, round(facts.thickness_px / 2))}
        yield Decision("candidates.*.inference.instances", value, f"objects are {facts.thickness_px:.0f} px wide")


RULES: list[Rule] = [
    source, names, layout, mask_values, groups, limits, subsets, fractions, seed, cross_validation, channels, clip,
    size, patches, model, epochs, output_bias, foreground, augment, instances,
    baseline,
]  # fmt: skip
