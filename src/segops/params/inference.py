"""Defines the params of a candidate's inference: from a trained network to masks and objects. None changes weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segops.params.input import Pair
from segops.params.section import Section

TestTimeAugmentation = Literal["none", "flips", "d4"]
ThresholdRule = Literal["best_dice", "otsu", "roc", "pr"]


class CleaningParams(Section):
    """Changes of a mask, in this order; of several classes each by itself, and it grows over background alone.

    Objects and holes are 4-connected.
    """

    open_px: int = Field(0, ge=0, le=64, description="1st: opening by a disc of this radius, pixels; 0: none")
    close_px: int = Field(0, ge=0, le=64, description="2nd: closing by a disc of this radius, pixels; 0: none")
    fill_holes_px: int = Field(0, ge=0, description="3rd: holes of at most so many pixels are filled; 0: none")
    remove_small_px: int = Field(0, ge=0, description="4th: objects of at most so many pixels are removed; 0: none")
    largest_only: bool = Field(False, description="5th: keep the largest object alone (of equal ones the first)")


class PostprocessParams(CleaningParams):
    """From probabilities to a mask. Whatever is chosen is chosen on validation."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | ThresholdRule = Field(
        "best_dice",
        description="of two classes: a number in (0, 1); the best mean Dice of 0.05, 0.1, ..., 0.95, or the pooled "
        "pixels' best Youden index (roc) or F1 (pr), all on validation; otsu: each image's own",
    )
    search: bool = Field(
        False,
        description="try open_px 0, 1, 2, fill_holes_px 0, 64 and remove_small_px 0, 16, 64 beside what is given here, "
        "and take the best mean Dice on validation",
    )


class InstanceParams(Section):
    """From a mask to objects, which are matched to the truth's and numbered in a file by `predict`."""

    method: Literal["none", "components", "watershed", "own"] = Field(
        "none",
        description="4-connected components, or these cut by a watershed from seeds; own: those that an external "
        "program numbers in its masks",
    )
    seeds: Literal["distance", "probability", "predicted"] = Field(
        "distance",
        description="watershed of the distance to the border from its peaks, of the probability where it is high, or "
        "of the distance that the candidate's `objects` predict where it is high",
    )
    seed_distance_px: int = Field(5, ge=1, le=1000, description="seeds distance: no other peak so near, pixels")
    smooth_px: float = Field(
        1.0, ge=0, le=100, description="seeds distance and predicted: sigma of the Gaussian over it; 0: none"
    )
    seed_probability: float = Field(
        0.9, gt=0, lt=1, description="seeds probability: a seed is a component above this probability"
    )
    seed_depth: float = Field(
        0.4, gt=0, lt=1, description="seeds predicted: a seed is a component above this share of an object's depth"
    )


class InferenceParams(Section):
    """How a trained network is used: on validation, on test, by `predict`, and in the registry's program."""

    tta: TestTimeAugmentation = Field(
        "none", description="mean probability over flips (4 network passes), or over flips and turns by 90° (d4, 8)"
    )
    window: Pair | None = Field(
        None,
        description="with resize none: height and width of the windows that an image is cut into; larger ones than "
        "input.size overlap less often, so they are faster, and take more memory; null: input.size",
    )
    postprocess: PostprocessParams = PostprocessParams()
    instances: InstanceParams = InstanceParams()
