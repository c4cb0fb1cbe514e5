"""Surface Dice at a tolerance, as DeepMind defines it (Nikolov et al. 2018, arXiv 1809.04430, section "Surface DSC").

The share of both surfaces that lies within the tolerance of the other one. A surface runs between voxels: each corner
of eight voxels that aren't all alike has a piece of it, whose area follows from marching cubes. MONAI computes it
equally to the `surface-distance` package of the authors.

Axes: D depth, H height, W width.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.volumes import Spacing

Mask = npt.NDArray[Any]


def surface_dice(truth_DHW: Mask, predicted_DHW: Mask, spacing_mm: Spacing, tolerance_mm: float) -> float:
    """Compute surface Dice of two boolean masks: NaN where both are empty, 0 where one is."""
    either = truth_DHW | predicted_DHW
    if not either.any():
        return float("nan")
    if not truth_DHW.any() or not predicted_DHW.any():
        return 0.0
    import torch
    from monai.metrics import compute_surface_dice

    def single(mask_DHW: Mask) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(mask_DHW))[None, None].float()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI calls an option of its own that it has deprecated
        score = compute_surface_dice(
            single(predicted_DHW),
            single(truth_DHW),
            [tolerance_mm],
            include_background=True,
            spacing=list(spacing_mm),
            use_subvoxels=True,
        )
    return float(score)
