"""Changes whole volumes before slices or patches are cut out of them: N4 bias field correction, and z-score.

The same in training and wherever a model is used. Axes: D depth, H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import Spacing
from segops.data.volumes.extras import extra
from segops.errors import UserError
from segops.params.volume_steps import BiasFieldParams, VolumeStepsParams

Floats = npt.NDArray[np.float32]

_ROUNDING = 1e-6  # of float32 values, as a share of their mean


def after_steps(
    image_DHWC: npt.NDArray[Any], spacing_mm: Spacing | None, steps: VolumeStepsParams, name: str
) -> Floats:
    """Return a volume after the steps that params ask for, channel by channel, float32.

    Args:
        image_DHWC: in units of its own.
        spacing_mm: None: unknown; N4 then counts in voxels.
        name: the volume's, for messages.

    Raises: UserError for N4 of values below 0, as of CT, or of a single plane.
    """
    channels = []
    for channel_DHW in np.moveaxis(image_DHWC.astype(np.float32), -1, 0):
        changed_DHW = channel_DHW
        if steps.bias_field is not None:
            changed_DHW = _without_bias(changed_DHW, spacing_mm or (1.0, 1.0, 1.0), steps.bias_field, name)
        if steps.zscore_over is not None:
            changed_DHW = _standardized(changed_DHW, _inside(changed_DHW, steps.zscore_over))
        channels.append(changed_DHW)
    return np.stack(channels, axis=-1)


def _without_bias(image_DHW: Floats, spacing_mm: Spacing, params: BiasFieldParams, name: str) -> Floats:
    """Divide a volume by the bias field that N4 fits to what is brighter than Otsu's threshold."""
    if image_DHW.min() < 0:
        raise UserError(
            f"{name}: values below 0, as of CT: N4 is for MR, whose values are above; set input.volume.bias_field: null"
        )
    if image_DHW.min() == image_DHW.max():
        return image_DHW
    if min(image_DHW.shape) == 1:
        sides = "x".join(map(str, image_DHW.shape))
        raise UserError(f"{name}: {sides} voxels, but N4 needs two along each axis; set input.volume.bias_field: null")
    itk: Any = extra("SimpleITK", "N4 bias field correction")
    whole = itk.GetImageFromArray(image_DHW)
    whole.SetSpacing([float(value) for value in reversed(spacing_mm)])
    factors = [min(params.shrink, max(1, side // 8)) for side in reversed(image_DHW.shape)]
    shrunk = itk.Shrink(whole, factors)
    inside = itk.OtsuThreshold(shrunk, 0, 1)
    fit = itk.N4BiasFieldCorrectionImageFilter()
    fit.SetNumberOfThreads(1)  # so that sums have one order, and equal volumes get equal fields
    fit.SetMaximumNumberOfIterations([params.iterations] * params.levels)
    fit.Execute(shrunk, inside)
    field_DHW = np.exp(itk.GetArrayFromImage(fit.GetLogBiasFieldAsImage(whole)))
    return np.asarray(image_DHW / field_DHW, np.float32)


def _inside(image_DHW: Floats, over: str) -> npt.NDArray[np.bool_]:
    """Return the voxels whose mean and deviation count; all of them where none would."""
    from skimage.filters import threshold_otsu

    if over == "volume" or image_DHW.min() == image_DHW.max():
        return np.ones(image_DHW.shape, bool)
    inside_DHW: npt.NDArray[np.bool_] = image_DHW != 0 if over == "nonzero" else image_DHW > threshold_otsu(image_DHW)
    return inside_DHW if inside_DHW.any() else ~inside_DHW


def _standardized(image_DHW: Floats, inside_DHW: npt.NDArray[np.bool_]) -> Floats:
    """Give the voxels inside zero mean and unit deviation, those outside the same shift and scale; 0 where constant."""
    values = image_DHW[inside_DHW].astype(np.float64)
    deviation = float(values.std())
    if deviation <= _ROUNDING * abs(values.mean()):
        return np.zeros_like(image_DHW)
    return np.asarray((image_DHW - values.mean()) / deviation, np.float32)
