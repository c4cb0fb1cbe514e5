"""Defines the params of a candidate's model: one section per architecture, with the network's arguments as fields."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from segops.params.section import Section
from segops.params.untrained import ExternalParams, IntensityParams

Outputs = Literal["softmax", "sigmoid"]
MOST_STAGES = 8  # of an encoder

Filters = Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=2, max_length=7)]
StochasticDepth = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="share of images that skip the last residual block's branch while training; it grows linearly from "
        "block to block (Huang et al. 2016)",
    ),
]


class UNetParams(Section):
    """U-Net, after Ronneberger et al. 2015, with same padding."""

    architecture: Literal["unet"]
    base_filters: int = Field(64, ge=1, le=256, description="channels of the first level; each level doubles them")
    depth: int = Field(4, ge=1, le=6, description="number of poolings")
    batch_norm: bool = Field(False, description="batch norm after each 3x3 convolution")
    dropout_bottleneck: float = Field(0.0, ge=0, lt=1, description="dropout in the bottleneck")
    dropout_decoder: float = Field(0.0, ge=0, lt=1, description="dropout in each decoder level")


class UNetCompactParams(Section):
    """U-Net of three levels (64, 128, 256): `unet` with other defaults."""

    architecture: Literal["unet_compact"]
    base_filters: int = Field(64, ge=1, le=256, description="channels of the first level; each level doubles them")
    depth: int = Field(2, ge=1, le=6, description="number of poolings")
    batch_norm: bool = Field(False, description="batch norm after each 3x3 convolution")
    dropout_bottleneck: float = Field(0.0, ge=0, lt=1, description="dropout in the bottleneck")
    dropout_decoder: float = Field(0.0, ge=0, lt=1, description="dropout in each decoder level")


class ResUNetParams(Section):
    """Deep residual U-Net, after Zhang et al. 2018."""

    architecture: Literal["resunet"]
    filters: Filters = Field((16, 32, 64, 128, 256), description="channels by level, stem first")
    shortcut_bn: bool = Field(False, description="batch norm on every 1x1 shortcut; false: on the stem's alone")
    stochastic_depth: StochasticDepth = 0.0


class ResUNetBNParams(Section):
    """`resunet` with batch norm on every shortcut: the customized residual U-Net."""

    architecture: Literal["resunet_bn"]
    filters: Filters = Field((16, 32, 64, 128, 256), description="channels by level, stem first")
    stochastic_depth: StochasticDepth = 0.0


class ResUNetPlusPlusParams(Section):
    """ResUNet++ (Jha et al. 2019)."""

    architecture: Literal["resunet_plus_plus"]
    filters: Annotated[Filters, Field(min_length=3)] = Field(
        (16, 32, 64, 128, 256), description="channels by level, stem first, the bridge's last"
    )
    se_ratio: int = Field(8, ge=1, le=64, description="squeeze-and-excitation: channels over the squeezed ones")
    aspp_rates: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 6, 12, 18), min_length=1, max_length=8, description="dilations of the pyramid's 3x3 convolutions"
    )
    stochastic_depth: StochasticDepth = 0.0


class AttentionUNetParams(Section):
    """Attention U-Net (Oktay et al. 2018)."""

    architecture: Literal["attention_unet"]
    base_filters: int = Field(64, ge=1, le=256, description="channels of the first level; each level doubles them")
    depth: int = Field(4, ge=2, le=6, description="number of poolings")
    deep_supervision: bool = Field(True, description="auxiliary logits at each decoder level while training")


class UNetPlusPlusParams(Section):
    """UNet++ (Zhou et al. 2018)."""

    architecture: Literal["unet_plus_plus"]
    base_filters: int = Field(32, ge=1, le=256, description="channels of the first level; each level doubles them")
    depth: int = Field(4, ge=1, le=6, description="number of poolings")
    batch_norm: bool = Field(False, description="batch norm after each 3x3 convolution")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout after each activation; the public code has 0.5")
    deep_supervision: bool = Field(True, description="auxiliary logits of the nested decoders while training")


class DenseUNetParams(Section):
    """Fully convolutional DenseNet (Jégou et al. 2017); the defaults are FC-DenseNet67."""

    architecture: Literal["dense_unet"]
    growth_rate: int = Field(16, ge=1, le=64, description="channels that each layer of a dense block adds")
    layers: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(
        (5, 5, 5, 5, 5), min_length=1, max_length=6, description="layers of each level's dense block"
    )
    bottleneck_layers: int = Field(5, ge=1, le=32, description="layers of the bottleneck's dense block")
    stem_filters: int = Field(48, ge=1, le=512, description="channels of the first convolution")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after each convolution of a block")


class MobileUNetParams(Section):
    """U-Net of depthwise separable convolutions (Howard et al. 2017)."""

    architecture: Literal["mobile_unet"]
    base_filters: int = Field(64, ge=1, le=256, description="channels of the first level before the multiplier")
    depth: int = Field(4, ge=1, le=6, description="number of poolings")
    width: float = Field(1.0, gt=0, le=4, description="multiplier of every level's channels, at least 1 channel")


class DynUNetParams(Section):
    """nnU-Net's network, from MONAI's DynUNet; for volumes where `input.size` has three numbers."""

    architecture: Literal["dynunet"]
    filters: Annotated[Filters, Field(min_length=4)] = Field(
        (32, 64, 128, 256, 512, 512), description="channels by level"
    )
    residual: bool = Field(False, description="residual blocks (nnU-Net's later variant)")
    deep_supervision: bool = Field(True, description="auxiliary logits, of all but the two lowest decoder levels")


class UNet3DParams(Section):
    """3D U-Net, after Çiçek et al. 2016."""

    architecture: Literal["unet_3d"]
    base_filters: int = Field(
        32, ge=1, le=256, description="channels of the first convolution; each level doubles them"
    )
    depth: int = Field(3, ge=1, le=6, description="number of poolings")
    batch_norm: bool = Field(True, description="batch norm after each 3x3x3 convolution")


class VNetParams(Section):
    """V-Net (Milletari et al. 2016)."""

    architecture: Literal["vnet"]
    base_filters: int = Field(16, ge=1, le=128, description="channels of the first level; each level doubles them")
    depth: int = Field(4, ge=1, le=6, description="number of strided convolutions")
    batch_norm: bool = Field(True, description="batch norm after each 5x5x5 convolution; the paper has none")


class ResUNet3DParams(Section):
    """`resunet` for volumes."""

    architecture: Literal["resunet_3d"]
    filters: Filters = Field((16, 32, 64, 128, 256), description="channels by level, stem first")
    shortcut_bn: bool = Field(False, description="batch norm on every 1x1x1 shortcut; false: on the stem's alone")
    stochastic_depth: StochasticDepth = 0.0


class WeightsParams(Section):
    """A safetensors file of an encoder's weights under their published names."""

    source: str = Field(min_length=1, description="file, http(s):// or s3://; its name ends in .safetensors")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="hash that the file must have")


class PretrainedParams(Section):
    """Where an encoder starts from, and when it learns."""

    weights: WeightsParams | None = Field(None, description="null: initial weights as of recipe.init")
    freeze_epochs: int = Field(0, ge=0, le=10_000, description="epochs in which the encoder doesn't learn")
    unfreeze_stages: int | None = Field(
        None, ge=0, le=MOST_STAGES, description="stages, from the last, that learn afterwards; null: all"
    )
    unfreeze_every: int | None = Field(
        None, ge=1, le=10_000, description="epochs until one further stage learns; null: all of them at once"
    )

    @model_validator(mode="after")
    def _schedule_starts(self) -> PretrainedParams:
        if self.unfreeze_every is not None and self.freeze_epochs == 0:
            raise ValueError("unfreeze_every needs freeze_epochs: the last stage learns after them")
        return self

    def learning_stages(self, epoch: int, stages: int) -> int:
        """Return how many of an encoder's stages, from the last, learn in an epoch (1-based)."""
        most = stages if self.unfreeze_stages is None else min(self.unfreeze_stages, stages)
        beyond = epoch - self.freeze_epochs
        if beyond < 1:
            return 0
        return most if self.unfreeze_every is None else min(most, 1 + (beyond - 1) // self.unfreeze_every)

    def resting_epochs(self, epochs: int) -> int:
        """Return how many of a training's first epochs may have fewer stages learn than its last."""
        last = self.learning_stages(epochs, MOST_STAGES)
        return sum(self.learning_stages(epoch, MOST_STAGES) < last for epoch in range(1, epochs + 1))


class AtrousResNet50UNetParams(Section):
    """U-Net with a ResNet50 encoder and atrous blocks."""

    architecture: Literal["atrous_resnet50_unet"]
    width: int = Field(64, ge=4, le=128, description="channels of the first convolution; ImageNet weights have 64")
    stochastic_depth: StochasticDepth = 0.0
    pretrained: PretrainedParams = PretrainedParams()


class VGG16UNetParams(Section):
    """U-Net with a VGG16 encoder (Simonyan and Zisserman 2015)."""

    architecture: Literal["vgg16_unet"]
    width: int = Field(64, ge=1, le=128, description="channels of the first stage; ImageNet weights have 64")
    batch_norm: bool = Field(False, description="batch norm in the encoder: torchvision's vgg16_bn")
    pretrained: PretrainedParams = PretrainedParams()


class EfficientNetUNetParams(Section):
    """U-Net with an EfficientNet encoder (Tan and Le 2019)."""

    architecture: Literal["efficientnet_unet"]
    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = Field("b0", description="size of the encoder")
    decoder_filters: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (256, 128, 64, 32, 16), min_length=5, max_length=5, description="channels of the decoder, lowest level first"
    )
    stochastic_depth: float = Field(0.2, ge=0, lt=1, description="share of images that skip the last block's branch")
    pretrained: PretrainedParams = PretrainedParams()


class EfficientNetLiteUNetParams(Section):
    """U-Net with an EfficientNet-Lite encoder (Liu 2020): no squeeze-and-excitation, ReLU6."""

    architecture: Literal["efficientnet_lite_unet"]
    variant: Literal["lite0", "lite1", "lite2", "lite3", "lite4"] = Field("lite0", description="size of the encoder")
    decoder_filters: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (256, 128, 64, 32, 16), min_length=5, max_length=5, description="channels of the decoder, lowest level first"
    )
    stochastic_depth: float = Field(0.2, ge=0, lt=1, description="share of images that skip the last block's branch")
    pretrained: PretrainedParams = PretrainedParams()


ModelParams = Annotated[
    UNetParams
    | UNetCompactParams
    | ResUNetParams
    | ResUNetBNParams
    | ResUNetPlusPlusParams
    | AttentionUNetParams
    | UNetPlusPlusParams
    | DenseUNetParams
    | MobileUNetParams
    | DynUNetParams
    | UNet3DParams
    | VNetParams
    | ResUNet3DParams
    | AtrousResNet50UNetParams
    | VGG16UNetParams
    | EfficientNetUNetParams
    | EfficientNetLiteUNetParams
    | IntensityParams
    | ExternalParams,
    Field(discriminator="architecture"),
]


def takes_dimensions(model: ModelParams) -> tuple[int, ...]:
    """Return the numbers of dimensions of an image that an architecture has a form for: 2, 3 or both."""
    if isinstance(model, UNet3DParams | VNetParams | ResUNet3DParams):
        return (3,)
    return (2, 3) if isinstance(model, DynUNetParams) else (2,)


def levels_of_volumes(model: ModelParams) -> int:
    """Return how many resolutions a network for volumes has."""
    filters: tuple[int, ...] | None = getattr(model, "filters", None)
    return len(filters) if filters else 1 + int(getattr(model, "depth", 0))


def pretrained_params(model: ModelParams) -> PretrainedParams | None:
    """Return the encoder's start and schedule; None for an architecture without a pretrained encoder."""
    return getattr(model, "pretrained", None)


def pretrained_weights(model: ModelParams) -> WeightsParams | None:
    """Return the file that the encoder starts from; None without a file."""
    pretrained = pretrained_params(model)
    return pretrained.weights if pretrained else None
