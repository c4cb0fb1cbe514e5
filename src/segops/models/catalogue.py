"""From params to a network, and its initial weights. Adding an architecture: a file, its params, a case here."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from segops.candidate_params import ModelParams, ResUNetParams, UNetParams
from segops.models.blocks import SegmentationNetwork
from segops.models.resunet import ResUNet
from segops.models.unet import UNet


def build(model: ModelParams, *, channels: int, classes: int) -> SegmentationNetwork:
    """Make a candidate's network with torch's own initial weights.

    Args:
        model: the architecture and its params.
        channels: of the image.
        classes: with background. Two classes need one logit a pixel (K = 1); more need K = classes.
    """
    outputs = 1 if classes == 2 else classes
    match model:
        case ResUNetParams():
            return ResUNet(channels, outputs, model.filters, shortcut_bn=model.shortcut_bn)
        case UNetParams():
            return UNet(
                channels,
                outputs,
                base_filters=model.base_filters,
                depth=model.depth,
                batch_norm=model.batch_norm,
                dropout_bottleneck=model.dropout_bottleneck,
                dropout_decoder=model.dropout_decoder,
            )


def initialize(network: SegmentationNetwork, how: Literal["torch", "he", "glorot"], output_bias: float) -> None:
    """Draw initial weights from torch's global generator.

    Args:
        network: changed in place.
        how: `he`: normal, by fan-in (He et al. 2015); `glorot`: uniform (Glorot and Bengio 2010), both with zero
            biases; `torch`: what torch's modules draw for themselves.
        output_bias: the foreground's initial logit; with several classes that of each class over background's 0.
    """
    for module in network.modules():
        if how != "torch" and isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if how == "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    bias = network.output.bias
    assert bias is not None
    with torch.no_grad():
        bias.fill_(output_bias)
        if len(bias) > 1:
            bias[0] = 0.0


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
