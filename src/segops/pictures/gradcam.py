"""GradCAM: where the network's lowest feature map speaks for foreground.

Selvaraju et al. 2017, "Grad-CAM", section 3; for segmentation as in Vinogradova, Dibrov and Myers 2020, "Towards
Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping", with the sum of the foreground
logits of all pixels as score. The last feature map before the logits would only show the logits again.

Axes: B batch, C channels, K logits, H height, W width; h, w are the network's height and width. Volumes have a depth D
before H.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from segops.contracts.volumes import Spacing
from segops.inference.predict import Predictor
from segops.models.blocks import SegmentationNetwork


def gradcam(
    predictor: Predictor, image_HWC: npt.NDArray[Any], spacing_mm: Spacing | None = None
) -> npt.NDArray[np.float32]:
    """Return GradCAM HW at native size in [0, 1], 1 where it is highest; all 0 where nothing speaks for foreground.

    A large image goes through in the windows of its prediction, and a volume as it is predicted, with one scale for
    all. Of an ensemble it is the mean.
    """
    cam_HW = predictor.in_windows(image_HWC, class_activation, spacing_mm)[0]
    top = float(cam_HW.max())
    return cam_HW / top if top > 0 else np.zeros_like(cam_HW)


def class_activation(network: SegmentationNetwork, image_BChw: Tensor) -> Tensor:
    """Weight the lowest map's channels by their mean gradients: cam_B1hw, cut at 0, linearly enlarged."""
    kept: list[Tensor] = []
    hook = network.lowest().register_forward_hook(lambda _module, _given, made: kept.append(made))
    try:
        with torch.enable_grad():
            logits_BKhw = network(image_BChw.detach().requires_grad_())[:, : network.class_channels]
            foreground = logits_BKhw if logits_BKhw.shape[1] == 1 else logits_BKhw[:, 1:]
            (gradient,) = torch.autograd.grad(foreground.sum(), kept[-1])
    finally:
        hook.remove()
    weight = gradient.mean(dim=tuple(range(2, gradient.dim())), keepdim=True)
    cam = (weight * kept[-1].detach()).sum(dim=1, keepdim=True).relu()
    mode = "bilinear" if cam.dim() == 4 else "trilinear"
    return F.interpolate(cam.float(), image_BChw.shape[2:], mode=mode, align_corners=False)
