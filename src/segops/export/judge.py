"""Runtimes side by side on the same images: milliseconds, Dice, and how far probabilities are from torch's.

Axes: B batch, C channels, K output channels, H height, W width.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from segops.contracts.model import TrainedModel
from segops.data.arrays import PreparedData
from segops.evaluation.metrics import defined_mean, image_dice
from segops.export.runtimes import Floats, Run
from segops.inference.cleaning import clean_mask, mask_of
from segops.inference.preprocess import unit_image
from segops.inference.timing import seconds
from segops.progress import track

REFERENCE = "torch"


def spread(rows: list[int], most: int | None) -> list[int]:
    """Pick at most `most` rows, evenly spaced; all rows if `most` is None."""
    if most is None or most >= len(rows):
        return rows
    return [rows[at * len(rows) // most] for at in range(most)]


def inputs(data: PreparedData, rows: list[int], model: TrainedModel, channels: int) -> Iterator[Floats]:
    """Yield image_BCHW of each row, scaled as the program takes it."""
    for row in rows:
        image_HWC = data.image(row)
        scaled = unit_image(image_HWC, model.full_scale[image_HWC.dtype.name], channels)
        yield np.ascontiguousarray(scaled.numpy())


def judge(
    runs: Mapping[str, Run], data: PreparedData, rows: list[int], model: TrainedModel, channels: int
) -> dict[str, tuple[float, float]]:
    """Compute by runtime the mean Dice and the largest difference of a probability from the reference.

    Args:
        runs: the runtimes by name, REFERENCE among them.
        rows: of validation, with foreground.
    """
    reference = [runs[REFERENCE](image) for image in inputs(data, rows, model, channels)]
    return {
        name: _scores(run, data, rows, model, channels, reference) for name, run in track(list(runs.items()), "judge")
    }


def milliseconds(
    runs: Mapping[str, Run], data: PreparedData, rows: list[int], model: TrainedModel, channels: int, passes: int
) -> dict[str, float]:
    """Time the runtimes: median over images of each image's median over passes. Each must have run before.

    In each pass one runtime processes all images before the next one begins, since its threads keep waiting for work
    for a while.
    """
    times_s: dict[str, list[list[float]]] = {name: [[] for _ in rows] for name in runs}
    for _ in track(range(passes), "time"):
        for name, run in runs.items():
            for taken, image_BCHW in zip(times_s[name], inputs(data, rows, model, channels), strict=True):
                taken.append(seconds(partial(run, image_BCHW)))
    return {
        name: 1000 * statistics.median(statistics.median(taken) for taken in images) for name, images in times_s.items()
    }


def _scores(
    run: Run, data: PreparedData, rows: list[int], model: TrainedModel, channels: int, reference: list[Floats]
) -> tuple[float, float]:
    """Run one runtime on all rows and return its mean Dice and its largest difference from the reference."""
    found, worst = [], 0.0
    for row, image_BCHW, expected in zip(rows, inputs(data, rows, model, channels), reference, strict=True):
        probability_BKHW = run(image_BCHW)
        worst = max(worst, float(np.abs(probability_BKHW - expected).max()))
        probability_KHW = probability_BKHW[0, : model.class_channels].clip(0, 1)
        mask_HW = clean_mask(mask_of(probability_KHW, model.threshold), model.cleaning)
        found.append(image_dice(data.mask(row), mask_HW, len(model.classes)))
    return float(defined_mean(found)), worst
