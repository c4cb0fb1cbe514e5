"""Defines what is expected of a sample's pixels, which `pixels.look` describes."""

from __future__ import annotations

from segops.params.validate import ValidateParams
from segops.progress import counted
from segops.validation.check import Check
from segops.validation.pixels import IN_PLACE, NONE, OWN

RELATED = "related images share a group"
MISPLACED = "masks of their own images"
RARELY_MISPLACED = "no misplaced mask"

_SWAPPED = 0.7  # of the images look as if foreground and background were swapped: then they are


def pixel_checks(params: ValidateParams, *, masks: bool) -> list[Check]:
    """List the checks of a sample: relatives are in one group, masks belong to their images and lie on their objects.

    Args:
        masks: there are masks that were compared.
    """
    related = Check(
        RELATED,
        "warning",
        "ExpectColumnValuesToBeInSet",
        {"column": "relative", "value_set": [NONE]},
        "images of different groups aren't copies, tiles or neighbours of one another, else they may be in train and "
        "in test",
        "give them one group (ingest.group_by), or see by segops audit which of them the split parts",
        tells="{}",
        noun="compared image",
    )
    return [related, *([*_owner_checks(params), *_placement_checks(params)] if masks else [])]


def _owner_checks(params: ValidateParams) -> list[Check]:
    """List the checks that a sample's masks belong to their images."""
    look = "see whether images and masks were numbered, sorted or exported apart; the page shows the mask that fits"
    return [
        Check(
            MISPLACED,
            "critical",
            "ExpectColumnValuesToBeInSet",
            {"column": "fitting_mask", "value_set": [OWN], "mostly": 1 - params.max_misplaced_masks},
            f"no other mask fits an image better than its own in {1 - params.max_misplaced_masks:g} of the images",
            f"{look}, or raise validate.max_misplaced_masks",
            tells="{} fits better",
            noun="compared image",
        ),
        Check(
            RARELY_MISPLACED,
            "warning",
            "ExpectColumnValuesToBeInSet",
            {"column": "rarely_fitting_mask", "value_set": [OWN]},
            "no other mask fits an image better than its own",
            look,
            tells="{} fits better",
            noun="compared image",
        ),
    ]


def _placement_checks(params: ValidateParams) -> list[Check]:
    """List the checks that masks fit images at all, lie on their objects, and aren't swapped with the background."""
    return [
        Check(
            "masks fit",
            "warning",
            "ExpectColumnMeanToBeBetween",
            {"column": "mask_fit", "min_value": params.min_mask_fit},
            f"a mask fits its image better than {params.min_mask_fit:g} of the other images' masks do, on average",
            "see whether masks belong to these images at all: contrast and edges don't show it",
            lambda table: f"{table['mask_fit'].mean():.3f} in {counted(table['mask_fit'].count(), 'compared image')}",
        ),
        Check(
            "masks in place",
            "warning",
            "ExpectColumnValuesToBeInSet",
            {"column": "mask_place", "value_set": [IN_PLACE]},
            "masks lie on their objects",
            "see whether images or masks were cropped, registered or resized apart",
            tells="{}",
            noun="compared image",
        ),
        Check(
            "masks not swapped",
            "warning",
            "ExpectColumnValuesToBeInSet",
            {"column": "swapped", "value_set": [0], "mostly": 1 - _SWAPPED},
            "foreground isn't the background with the objects left out",
            "see whether the first of ingest.mask_values is the background",
            tells="foreground around spots of background",
            noun="compared image",
        ),
    ]
