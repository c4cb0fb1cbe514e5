"""Defines what is expected of a manifest: names, severities, thresholds and remedies. `suite` runs the checks."""

from __future__ import annotations

from collections.abc import Sequence

from segops.params.validate import ValidateParams
from segops.progress import counted
from segops.validation.check import Check, either, shown_in, tally
from segops.validation.pixel_checks import pixel_checks
from segops.validation.volume_checks import volume_checks


def checks(
    params: ValidateParams, classes: Sequence[str], *, volumes: bool = False, looked: bool = False, masks: bool = False
) -> list[Check]:
    """List the expectations that these params ask for, in the order of the report.

    Args:
        classes: class names by index; 0 is background.
        volumes: the examples are volumes.
        looked: the pixels of a sample were looked at, so that what they show can be checked.
        masks: there are masks among them that were compared.
    """
    return [
        *_identity_checks(params),
        *_geometry_checks(params),
        *(volume_checks(params) if volumes else []),
        *_intensity_checks(params),
        *_mask_checks(params),
        *_class_checks(classes),
        *(pixel_checks(params, masks=masks) if looked else []),
    ]


def _identity_checks(params: ValidateParams) -> list[Check]:
    """List the checks of ids, groups, duplicates and their numbers."""
    group_fix = "set ingest.group_by, so that every image has a group"
    return [
        Check(
            "enough images",
            "critical",
            "ExpectTableRowCountToBeBetween",
            {"min_value": params.min_images},
            f"at least {counted(params.min_images, 'image')}",
            "add images or lower validate.min_images",
            lambda table: counted(len(table), "image"),
        ),
        Check(
            "enough groups",
            "critical",
            "ExpectColumnUniqueValueCountToBeBetween",
            {"column": "group_id", "min_value": params.min_groups},
            f"at least {counted(params.min_groups, 'group')}",
            "add images of other groups, or see whether ingest.group_by joins too much",
            lambda table: counted(table["group_id"].nunique(), "group"),
        ),
        Check(
            "unique image ids",
            "critical",
            "ExpectColumnValuesToBeUnique",
            {"column": "image_id"},
            "every image id is there once",
            "rename one of the images",
        ),
        Check(
            "image id format",
            "critical",
            "ExpectColumnValuesToMatchRegex",
            {"column": "image_id", "regex": r"^[^./\\\s]+$"},
            "ids without dots, slashes, spaces",
            "rename the images",
        ),
        Check(
            "group ids present",
            "critical",
            "ExpectColumnValuesToNotBeNull",
            {"column": "group_id"},
            "every image has a group",
            group_fix,
        ),
        Check(
            "group ids not empty",
            "critical",
            "ExpectColumnValuesToMatchRegex",
            {"column": "group_id", "regex": r"\S"},
            "no group id is blank",
            group_fix,
        ),
        Check(
            "duplicates share a group",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "groups_of_image", "max_value": 1},
            "images with equal pixels are in one group, else the same image may be in train and in test",
            "remove one of each pair, or give both one group (ingest.group_by: fields does)",
        ),
        Check(
            "unique images",
            "warning",
            "ExpectColumnValuesToBeUnique",
            {"column": "image_sha256"},
            "no two images have equal pixels",
            "remove one of each pair",
        ),
        Check(
            "unique masks",
            "warning",
            "ExpectColumnValuesToBeUnique",
            {"column": "filled_mask_sha256"},
            "no two images have the same mask (empty ones aside)",
            "see whether a mask was saved under two names",
        ),
        Check(
            "no dominant group",
            "warning",
            "ExpectColumnMaxToBeBetween",
            {"column": "group_share", "max_value": params.max_group_share},
            f"no group holds more than {params.max_group_share:g} of the images",
            "add images of other groups, or see whether ingest.group_by joins too much",
        ),
    ]


def _geometry_checks(params: ValidateParams) -> list[Check]:
    """List the checks of sizes, sample types and channels."""
    low, high = params.min_size_px, params.max_size_px
    size_fix = "leave these images out, or change validate.min_size_px and max_size_px"
    return [
        Check(
            "image and mask size equal",
            "critical",
            "ExpectColumnPairValuesToBeEqual",
            {"column_A": "image_size", "column_B": "mask_size"},
            "a mask is as high and as wide as its image",
            "export the mask at the image's size",
        ),
        Check(
            "sample types",
            "critical",
            "ExpectColumnValuesToBeInSet",
            {"column": "dtype", "value_set": list(params.dtypes)},
            f"samples of type {either(params.dtypes)}",
            "convert the images, or extend validate.dtypes",
            lambda table: tally(table["dtype"]),
        ),
        Check(
            "channel counts",
            "critical",
            "ExpectColumnValuesToBeInSet",
            {"column": "channels", "value_set": list(params.channels)},
            f"{either(params.channels)} {'channel' if params.channels == [1] else 'channels'}",
            "convert the images, or extend validate.channels",
            lambda table: tally(table["channels"]),
        ),
        Check(
            "heights",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "height", "min_value": low, "max_value": high},
            f"heights of {low} to {high} px",
            size_fix,
        ),
        Check(
            "widths",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "width", "min_value": low, "max_value": high},
            f"widths of {low} to {high} px",
            size_fix,
        ),
    ]


def _intensity_checks(params: ValidateParams) -> list[Check]:
    """List the checks of the samples' range, contrast and saturation."""
    return [
        Check(
            "darkest sample",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "scaled_intensity_min", "min_value": 0, "max_value": 1},
            "the darkest sample lies on the full scale, 0 to 1",
            "run `segops ingest` again",
        ),
        Check(
            "brightest sample",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "scaled_intensity_max", "min_value": 0, "max_value": 1},
            "the brightest sample lies on the full scale, 0 to 1",
            "run `segops ingest` again",
        ),
        Check(
            "no constant image",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "intensity_std", "min_value": params.min_intensity_std},
            f"a standard deviation of at least {params.min_intensity_std:g} of full scale",
            "remove or replace these images, or lower validate.min_intensity_std",
        ),
        Check(
            "few saturated pixels",
            "warning",
            "ExpectColumnValuesToBeBetween",
            {"column": "saturated_fraction", "max_value": params.max_saturated},
            f"at most {params.max_saturated:g} of an image's pixels at full scale",
            "look for overexposure, or raise validate.max_saturated",
        ),
    ]


def _mask_checks(params: ValidateParams) -> list[Check]:
    """List the checks of how much of the masks is foreground."""
    low, high = params.foreground
    mean_low, mean_high = params.mean_foreground
    found = [
        Check(
            "foreground fraction",
            "warning",
            "ExpectColumnValuesToBeBetween",
            {
                "column": "usual_foreground_fraction",
                "min_value": low,
                "max_value": high,
                "mostly": params.foreground_mostly,
            },
            f"a foreground fraction of {low:g} to {high:g} in at least {params.foreground_mostly:g} of the images",
            "see whether these masks are right, or widen validate.foreground",
        ),
        Check(
            "mean foreground",
            "warning",
            "ExpectColumnMeanToBeBetween",
            {"column": "foreground_fraction", "min_value": mean_low, "max_value": mean_high},
            f"a mean foreground fraction of {mean_low:g} to {mean_high:g}",
            "see whether ingest.mask_values is right, or widen validate.mean_foreground",
        ),
    ]
    if not params.allow_empty_masks:
        found.append(
            Check(
                "no empty mask",
                "warning",
                "ExpectColumnValuesToBeBetween",
                {"column": "foreground_fraction", "min_value": 0, "strict_min": True},
                "every mask has foreground",
                "annotate these images, or set validate.allow_empty_masks: true",
            )
        )
    if not params.allow_full_masks:
        found.append(
            Check(
                "no full mask",
                "warning",
                "ExpectColumnValuesToBeBetween",
                {"column": "foreground_fraction", "max_value": 1, "strict_max": True},
                "every mask has background",
                "see whether these masks are right, or set validate.allow_full_masks: true",
            )
        )
    return found


def _class_checks(classes: Sequence[str]) -> list[Check]:
    """List the checks that masks show only known classes, and each of them in some image."""
    indices = "|".join(map(str, range(len(classes))))
    allowed = Check(
        "allowed classes only",
        "critical",
        "ExpectColumnValuesToMatchRegex",
        {"column": "classes", "regex": rf"^(?:(?:{indices})(?: (?:{indices}))*)?$"},
        f"class indices 0 to {len(classes) - 1}",
        "map the masks' values in ingest.mask_values",
    )
    present = [
        Check(
            f"class {name} present",
            "critical",
            "ExpectColumnMaxToBeBetween",
            {"column": f"has_class_{index}", "min_value": 1},
            f"at least one image shows {name}",
            "add images that show it, or take it out of ingest.mask_values",
            shown_in(index),
        )
        for index, name in enumerate(classes)
    ]
    return [allowed, *present]
