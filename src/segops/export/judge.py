"""Runtimes side by side on the same images: milliseconds, Dice, and how far probabilities are from torch's.

Axes: B batch, C channels, K output channels, H height, W width; volumes have a depth D before H.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import torch

from segops.contracts.model import TrainedModel
from segops.contracts.volumes import Spacing
from segops.data.arrays import PreparedData
from segops.evaluation.metrics import defined_mean, image_dice
from segops.export.runtimes import Floats, Run
from segops.inference.cleaning import clean_mask, mask_of
from segops.inference.preprocess import unit_image
from segops.inference.timing import seconds
from segops.inference.volumes import given_volume, volume_map
from segops.progress import track

REFERENCE = "torch"


def spread(rows: list[int], most: int | None) -> list[int]:
    """Pick at most `most` rows, evenly spaced; all rows if `most` is None."""
    if most is None or most >= len(rows):
        return rows
    return [rows[at * len(rows) // most] for at in range(most)]


def inputs(data: PreparedData, rows: list[int], model: TrainedModel, channels: int) -> Iterator[Floats]:
    """Yield image_BCHW of each row, scaled as the program takes it; a volume at the candidate's spacing."""
    for row in rows:
        image_HWC = data.image(row)
        full_scale = model.full_scale[image_HWC.dtype.name]
        if model.input_params.of_volumes:
            spacing_mm = data.spacing_mm(row)
            scaled, _ = given_volume(
                image_HWC, spacing_mm, model.input_params, full_scale=full_scale, channels=channels
            )
        else:
            scaled = unit_image(image_HWC, full_scale, channels)
        yield np.ascontiguousarray(scaled.numpy())


def predictions(
    data: PreparedData, rows: list[int], model: TrainedModel, channels: int
) -> Iterator[Callable[[Run], Floats]]:
    """Yield for each row what gives its probabilities KHW by a runtime; a volume's as the candidate sees volumes."""
    if data.meta.dimensions == 2:
        for image_BCHW in inputs(data, rows, model, channels):
            yield lambda run, image_BCHW=image_BCHW: run(image_BCHW)[0]  # type: ignore[misc]
        return
    for row in rows:
        yield partial(
            _of_volume, image_DHWC=data.image(row), spacing_mm=data.spacing_mm(row), model=model, channels=channels
        )


def _of_volume(
    run: Run, *, image_DHWC: np.ndarray, spacing_mm: Spacing | None, model: TrainedModel, channels: int
) -> Floats:
    """Return the probabilities KDHW of a volume by a runtime."""
    return volume_map(
        lambda given: torch.from_numpy(run(np.ascontiguousarray(given.numpy()))),
        image_DHWC,
        spacing_mm,
        model.input_params,
        full_scale=model.full_scale[image_DHWC.dtype.name],
        device=torch.device("cpu"),
        channels=channels,
    )


def judge(
    runs: Mapping[str, Run], data: PreparedData, rows: list[int], model: TrainedModel, channels: int
) -> dict[str, tuple[float, float]]:
    """Compute by runtime the mean Dice and the largest difference of a probability from the reference.

    Args:
        runs: the runtimes by name, REFERENCE among them.
        rows: of validation, with foreground.
    """
    reference = [predict(runs[REFERENCE]) for predict in predictions(data, rows, model, channels)]
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
            for taken, predict in zip(times_s[name], predictions(data, rows, model, channels), strict=True):
                taken.append(seconds(partial(predict, run)))
    return {
        name: 1000 * statistics.median(statistics.median(taken) for taken in images) for name, images in times_s.items()
    }


def _scores(
    run: Run, data: PreparedData, rows: list[int], model: TrainedModel, channels: int, reference: list[Floats]
) -> tuple[float, float]:
    """Run one runtime on all rows and return its mean Dice and its largest difference from the reference."""
    found, worst = [], 0.0
    for row, predict, expected in zip(rows, predictions(data, rows, model, channels), reference, strict=True):
        map_KHW = predict(run)
        worst = max(worst, float(np.abs(map_KHW - expected).max()))
        probability_KHW = map_KHW[: model.class_channels].clip(0, 1)
        mask_HW = clean_mask(mask_of(probability_KHW, model.threshold), model.cleaning)
        found.append(image_dice(data.mask(row), mask_HW, len(model.classes)))
    return float(defined_mean(found)), worst
