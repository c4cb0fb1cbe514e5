"""Defines the gate: what a version must reach to become the champion."""

from __future__ import annotations

from pydantic import Field

from segops.params.section import Fraction, Section

FEWEST_GROUPS = 10  # of which a decision is made; intervals of fewer are too wide for a decision


class PromoteParams(Section):
    """The gate between a challenger and the champion. It reads the test set."""

    min_test_dice: Fraction = Field(0.5, description="lowest mean Dice on test; `register.floors` are on validation")
    min_test_iou: Fraction = Field(0.3, description="lowest mean IoU on test")
    min_groups: int = Field(
        FEWEST_GROUPS,
        ge=2,
        description="fewest groups of test images on which a version is compared with the champion; fewer: not judged, "
        "which refuses",
    )
    margin: Fraction = Field(
        0.01, description="non-inferiority: the paired interval's low end must lie above -margin (Dice)"
    )
    min_gain: float | None = Field(
        None,
        ge=0,
        le=1,
        description="smallest paired mean gain in test Dice, which must also exceed the noise of seeds where "
        "`segops noise` measured it; null: no gain is asked",
    )
    subgroup_margin: Fraction = Field(
        0.05,
        description="largest allowed fall of the mean Dice of a modality, an image size, a group or a class, and rise "
        "of the share of images without a class in which it is predicted",
    )
    min_subgroup_images: int = Field(5, ge=1, description="smaller subgroups are not judged")
    max_milliseconds: float | None = Field(
        None,
        gt=0,
        description="longest time an image of the training images' median size may take where the gate runs; null: not "
        "measured",
    )
    max_parameters: int | None = Field(None, ge=1, description="most trainable parameters; null: any number")
    max_weights_mib: float | None = Field(None, gt=0, description="largest weights file, MiB; null: any size")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of the paired interval")

    @property
    def has_ceiling(self) -> bool:
        """Whether it matters what a version costs."""
        return any(
            ceiling is not None for ceiling in (self.max_milliseconds, self.max_parameters, self.max_weights_mib)
        )
