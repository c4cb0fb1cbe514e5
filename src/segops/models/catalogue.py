"""Builds a network from params, and draws its initial weights.

Adding an architecture: a file, its params, a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import nn

from segops.models.atrous_resnet50_unet import AtrousResNet50UNet
from segops.models.attention_unet import AttentionUNet
from segops.models.blocks import SegmentationNetwork
from segops.models.dense_unet import DenseUNet
from segops.models.dynunet import DynUNet
from segops.models.efficientnet_lite import EfficientNetLite
from segops.models.efficientnet_unet import EfficientNetUNet
from segops.models.external import External
from segops.models.intensity import Intensity
from segops.models.mobile_unet import MobileUNet
from segops.models.resunet import ResUNet
from segops.models.resunet_plus_plus import ResUNetPlusPlus
from segops.models.unet import UNet
from segops.models.unet_3d import UNet3D
from segops.models.unet_plus_plus import UNetPlusPlus
from segops.models.vgg16_unet import VGG16UNet
from segops.models.vnet import VNet
from segops.params.candidate import NetworkParams
from segops.params.levels import Level
from segops.params.model import ModelParams, Outputs

# Each is called with the image's channels, the number of logits, and its params by name; for volumes with `levels` too.
ARCHITECTURES: dict[str, Callable[..., SegmentationNetwork]] = {
    "unet": UNet,
    "unet_compact": UNet,
    "resunet": ResUNet,
    "resunet_bn": partial(ResUNet, shortcut_bn=True),
    "resunet_plus_plus": ResUNetPlusPlus,
    "attention_unet": AttentionUNet,
    "unet_plus_plus": UNetPlusPlus,
    "dense_unet": DenseUNet,
    "mobile_unet": MobileUNet,
    "dynunet": DynUNet,
    "atrous_resnet50_unet": AtrousResNet50UNet,
    "vgg16_unet": VGG16UNet,
    "efficientnet_unet": EfficientNetUNet,
    "efficientnet_lite_unet": partial(EfficientNetUNet, encoder=EfficientNetLite),
    "intensity": Intensity,
    "unet_3d": UNet3D,
    "vnet": VNet,
    "resunet_3d": ResUNet,
    "external": External,
}
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)
_NOT_ARGUMENTS = {"architecture", "pretrained"}


def build_network(params: NetworkParams, classes: int) -> SegmentationNetwork:
    """Build the network of a candidate or a member, as `build` does."""
    return build(
        params.model,
        channels=params.input.channels,
        classes=classes,
        outputs=params.outputs,
        objects=params.objects is not None,
        levels=params.levels,
    )


def build(
    model: ModelParams,
    *,
    channels: int,
    classes: int,
    outputs: Outputs = "softmax",
    objects: bool = False,
    levels: Sequence[Level] | None = None,
) -> SegmentationNetwork:
    """Build a candidate's network with torch's own initial weights.

    Args:
        model: the architecture and its params.
        channels: of the image.
        classes: with background. Two classes need K = 1, foreground's logit; more, or sigmoid channels, K = classes.
        outputs: see `CandidateParams`.
        objects: whether one more channel says how deep in its object a pixel is.
        levels: strides and kernels of a network for volumes; None: for images.
    """
    arguments = {name: getattr(model, name) for name in type(model).model_fields if name not in _NOT_ARGUMENTS}
    arguments |= {} if levels is None else {"levels": levels}
    logits = 1 if classes == 2 and outputs == "softmax" else classes
    network = ARCHITECTURES[model.architecture](channels, logits + objects, **arguments)
    network.object_channel = objects
    network.sigmoid_channels = outputs == "sigmoid"
    return network


def initialize(network: SegmentationNetwork, how: Literal["torch", "he", "glorot"], output_bias: float) -> None:
    """Draw initial weights from torch's global generator.

    Args:
        network: changed in place.
        how: `he`: normal, by fan-in (He et al. 2015); `glorot`: uniform (Glorot and Bengio 2010), both with zero
            biases; `torch`: what torch's modules draw for themselves.
        output_bias: the foreground's initial logit, and the object channel's; with several classes that of each class
            over background's 0; with sigmoid channels that of each foreground class, background's is the opposite.
    """
    for module in network.modules():
        if how != "torch" and isinstance(module, _CONVOLUTIONS):
            if how == "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in network.heads():
        assert head.bias is not None
        with torch.no_grad():
            head.bias.fill_(output_bias)
            if network.class_channels > 1:
                head.bias[0] = -output_bias if network.sigmoid_channels else 0.0


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
