"""Large images in overlapping windows, blended by a Gaussian.

Axes: B batch, C channels, K output channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BATCH = 4  # windows at a time
_SIGMA = 1 / 8  # of the window's side, as in nnU-Net (Isensee et al. 2021)


def blend_windows(
    image_BCHW: Tensor,
    window_hw: tuple[int, int],
    overlap: float,
    predict: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
) -> Tensor:
    """Predict window by window and average where windows overlap; weights sum to 1 at each pixel.

    Args:
        image_BCHW: float, on any device; only windows of it go to `device`.
        window_hw: the window's size; an image that is smaller along an axis gives smaller windows there.
        overlap: of neighbours, as a share of the window's side, in [0, 1).
        predict: from windows BChw on `device` to their maps BKhw, which it must not keep: they are written over.
        device: where `predict` computes.

    Returns:
        map_BKHW of the whole image, on the image's device.
    """
    height, width = image_BCHW.shape[2:]
    fitting_hw = (min(window_hw[0], height), min(window_hw[1], width))
    if fitting_hw == (height, width):
        return predict(image_BCHW.to(device)).to(image_BCHW.device)
    from monai.inferers.utils import sliding_window_inference  # its import takes seconds

    map_BKHW = sliding_window_inference(
        image_BCHW,
        fitting_hw,
        _BATCH,
        predict,
        overlap=overlap,
        mode="gaussian",
        sigma_scale=_SIGMA,
        sw_device=device,
        device=image_BCHW.device,
    )
    assert isinstance(map_BKHW, Tensor)
    return map_BKHW
