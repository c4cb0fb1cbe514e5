"""From probabilities to masks: the rule, the threshold and the cleaning that suit a candidate, chosen on validation.

Axes: H height, W width, K output channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segops.evaluation.curves import PixelTally
from segops.evaluation.metrics import choose_threshold, defined_mean, image_dice
from segops.inference.cleaning import clean_mask, foreground_of, mask_of
from segops.params.inference import CleaningParams, PostprocessParams
from segops.progress import track

if TYPE_CHECKING:
    from segops.data.arrays import PreparedData
    from segops.inference.predict import Probabilities

Rule = Literal["argmax", "otsu", "fixed", "best_dice", "roc", "pr"]
Pair = tuple[npt.NDArray[np.float32], npt.NDArray[Any]]  # probability_KHW and truth_HW of an image

# What `search` tries beside the given cleaning, the mildest first.
_OPEN_PX, _FILL_HOLES_PX, _REMOVE_SMALL_PX = (0, 1, 2), (0, 64), (0, 16, 64)


@dataclass(frozen=True)
class Decision:
    """Holds how probabilities become masks, and the mean Dice that this gives on validation.

    The mean is over the images in which either the truth or the mask has foreground.
    """

    rule: Rule
    threshold: float | None
    cleaning: CleaningParams
    val_dice: float


def decide(predictor: Probabilities, data: PreparedData, params: PostprocessParams) -> Decision:
    """Choose rule, threshold and cleaning on the validation images at native size; test is never read.

    The threshold comes first, without cleaning; then, with `search`, the cleaning, with that threshold.

    Raises:
        UserError: no validation image has foreground.
    """
    data.require_foreground(_rows(predictor, data), "validation")
    classes, cleaning = len(data.meta.classes), given_cleaning(params)
    rule, threshold, val_dice = choose_rule(predictor, data, params)
    if not params.search and cleaning == CleaningParams() and val_dice is not None:
        return Decision(rule, threshold, cleaning, val_dice)
    tried = cleanings(cleaning) if params.search else [cleaning]
    scores: list[list[float]] = [[] for _ in tried]
    for probability_KHW, truth_HW in _validation(predictor, data, "post-processing on validation"):
        mask_HW = mask_of(probability_KHW, threshold)
        for dices, attempt in zip(scores, tried, strict=True):
            dices.append(image_dice(truth_HW, clean_mask(mask_HW, attempt), classes))
    # Means that are equal up to the order of summation are equal; the first is the given or the mildest cleaning.
    means = [round(float(defined_mean(dices)), 9) for dices in scores]
    best = means.index(max(means))
    return Decision(rule, threshold, tried[best], means[best])


def choose_rule(
    predictor: Probabilities, data: PreparedData, params: PostprocessParams
) -> tuple[Rule, float | None, float | None]:
    """Return rule and threshold, and the mean Dice without cleaning where choosing gave it.

    roc takes the threshold with the largest Youden index (true minus false positive rate; Youden 1950), pr that with
    the best F1, both over the pixels of all validation images and nearest 0.5 among equals.
    """
    if len(data.meta.classes) > 2:
        return "argmax", None, None
    if isinstance(params.threshold, float):
        return "fixed", params.threshold, None
    if params.threshold == "otsu":
        return "otsu", None, None
    pairs = _validation(predictor, data, "threshold on validation")
    if params.threshold == "best_dice":
        truths = (data.mask(row) for row in _rows(predictor, data))
        return "best_dice", *choose_threshold((foreground_of(probability) for probability, _ in pairs), truths)
    tally = PixelTally()
    for probability_KHW, truth_HW in pairs:
        tally.add(foreground_of(probability_KHW), truth_HW)
    return params.threshold, tally.best_youden() if params.threshold == "roc" else tally.best_f1(), None


def given_cleaning(params: PostprocessParams) -> CleaningParams:
    """Return the cleaning that params state, without what else they hold."""
    return CleaningParams(**{name: getattr(params, name) for name in CleaningParams.model_fields})


def cleanings(given: CleaningParams) -> list[CleaningParams]:
    """List what `search` tries: the given cleaning, and it with each of the grid's openings, holes, small objects."""
    grid = product(_OPEN_PX, _FILL_HOLES_PX, _REMOVE_SMALL_PX)
    names = ("open_px", "fill_holes_px", "remove_small_px")
    tried = [given.model_copy(update=dict(zip(names, values, strict=True))) for values in grid]
    return [given, *(cleaning for cleaning in tried if cleaning != given)]


def _validation(predictor: Probabilities, data: PreparedData, what: str) -> Iterator[Pair]:
    """Yield probability and truth of the validation images one by one.

    They are predicted anew for each pass, which is cheaper than holding every prediction.
    """
    for row in track(_rows(predictor, data), what):
        judge = predictor.validating(data.fold(row))
        yield judge.probability(data.image(row), data.spacing_mm(row)), data.mask(row)


def _rows(predictor: Probabilities, data: PreparedData) -> list[int]:
    """Return the rows of validation; of an ensemble of folds all rows outside test.

    Such an ensemble has seen all images outside test, so each of them is judged out of fold.
    """
    return sorted(data.rows("val") + data.rows("train")) if predictor.model.ensemble else data.rows("val")
