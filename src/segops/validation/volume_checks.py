"""Defines what is expected of volumes, beyond what is expected of every image."""

from __future__ import annotations

from segops.params.validate import ValidateParams
from segops.validation.check import Check

_FEWEST_SLICES = 2
_SPACING_MM = (0.0005, 20.0)  # from microscopes to the thickest slices of clinical scanners


def volume_checks(params: ValidateParams) -> list[Check]:
    """List the checks of depth and spacing."""
    low_mm, high_mm = _SPACING_MM
    spacing_fix = "correct the files' headers, or say the spacing in ingest.spacing_mm"
    return [
        Check(
            "depths",
            "critical",
            "ExpectColumnValuesToBeBetween",
            {"column": "depth", "min_value": _FEWEST_SLICES, "max_value": params.max_size_px},
            f"volumes of {_FEWEST_SLICES} to {params.max_size_px} slices",
            "leave these volumes out, or change validate.max_size_px",
        ),
        Check(
            "spacing known",
            "warning",
            "ExpectColumnValuesToNotBeNull",
            {"column": "smallest_spacing_mm"},
            "every file says how far its voxels are apart; without it nothing is resampled, nor measured in mm",
            spacing_fix,
        ),
        Check(
            "smallest spacing",
            "warning",
            "ExpectColumnValuesToBeBetween",
            {"column": "smallest_spacing_mm", "min_value": low_mm},
            f"voxels at least {low_mm:g} mm apart",
            spacing_fix,
        ),
        Check(
            "largest spacing",
            "warning",
            "ExpectColumnValuesToBeBetween",
            {"column": "largest_spacing_mm", "max_value": high_mm},
            f"voxels at most {high_mm:g} mm apart",
            spacing_fix,
        ),
    ]
