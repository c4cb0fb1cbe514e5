"""Checks whether the prepared images are what a candidate's input takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segops.contracts.volumes import SPACING_COLUMNS
from segops.data.images import FULL_SCALE, OWN_UNITS, full_scale
from segops.errors import UserError
from segops.params.input import InputParams, takes_channels

if TYPE_CHECKING:
    import pandas as pd

    from segops.data.arrays import PreparedData

_MUCH_SHRUNK = 2.0  # times, from which it is said


def check_images(index: pd.DataFrame, input_params: InputParams, candidate: str) -> None:
    """Raise UserError, naming an image, where the prepared images aren't what the candidate's input takes.

    Args:
        index: INDEX_COLUMNS.
    """
    param = f"candidates.{candidate}.input"
    _check_dimensions(index, input_params, param)
    for image_id, channels, dtype in zip(index["image_id"], index["channels"], index["dtype"], strict=True):
        if not takes_channels(int(channels), input_params.channels):
            raise UserError(
                f"params.yaml: {param}.channels is {input_params.channels}, but image '{image_id}' has {channels}; set "
                "it to the images' number (only grey and RGB turn into each other)"
            )
        if dtype in OWN_UNITS and input_params.clip is None:
            raise UserError(
                f"params.yaml: {param}.clip: image '{image_id}' holds {dtype} values in its own units, not 0..1; "
                "set a window such as [-160, 240], or percentiles"
            )
    kinds = {dtype in OWN_UNITS: dtype for dtype in index["dtype"]}
    if len(kinds) > 1:
        raise UserError(
            f"the prepared images mix {kinds[False]}, whose full scale is 1, with {kinds[True]} in its own units; "
            "ingest them apart"
        )


def _check_dimensions(index: pd.DataFrame, input_params: InputParams, param: str) -> None:
    """Raise UserError where volumes meet an input for pictures, or pictures one for volumes."""
    volumes = bool((index["depth"] > 1).any())
    asked = "slices" if input_params.slices else "a size of three numbers" if input_params.of_volumes else None
    if not volumes and input_params.volume is not None:
        raise UserError(
            f"params.yaml: {param}.volume is for volumes, but the prepared data are pictures; set it to null"
        )
    if volumes and asked is None:
        raise UserError(
            f"params.yaml: {param}: the prepared data are volumes; set slices, such as {{axis: axial}}, or take a "
            "network for volumes with a size of three numbers"
        )
    if not volumes and asked is not None:
        raise UserError(f"params.yaml: {param} has {asked}, which is for volumes, but the prepared data are pictures")
    unknown = index[list(SPACING_COLUMNS)].isna().any(axis=1)
    if input_params.spacing_mm is not None and unknown.any():
        raise UserError(
            f"params.yaml: {param}.spacing_mm resamples, but '{index['image_id'][unknown].iloc[0]}' says no spacing; "
            "set ingest.spacing_mm and run ingest again, or spacing_mm: null"
        )


def shrink_warning(index: pd.DataFrame, input_params: InputParams, candidate: str) -> str | None:
    """Word a warning that resizing shrinks images so much that thin objects may vanish; None below a factor of 2.

    Args:
        index: INDEX_COLUMNS.
    """
    if input_params.resize == "none" or (index["depth"] > 1).any():
        return None
    rows, (height, width) = index[index["subset"] != "test"], input_params.size_hw
    factor = float(np.median(np.maximum(rows["height"] / height, rows["width"] / width)))
    if factor < _MUCH_SHRUNK:
        return None
    native = f"{rows['height'].median():.0f}x{rows['width'].median():.0f}"
    return (
        f"candidate {candidate}: input.resize {input_params.resize} shrinks images of {native} to {height}x{width} by "
        f"{factor:.1f}: thin objects may vanish; raise input.size, or take native patches by input.resize: none"
    )


def full_scales(data: PreparedData) -> dict[str, float]:
    """Return the value that counts as 1, by each sample type that a model of these images takes.

    8-bit samples always use all their bits. How many 16-bit samples use is known only where the images have such.
    """
    if data.index["dtype"].isin(OWN_UNITS).any():
        return {dtype: FULL_SCALE[dtype] for dtype in OWN_UNITS}
    seen = {"uint8", *data.index["dtype"]}
    return {dtype: full_scale(dtype, data.meta.uint16_bits) for dtype in sorted(seen)}
