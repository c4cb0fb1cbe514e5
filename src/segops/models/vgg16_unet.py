"""U-Net with a VGG16 encoder (Simonyan and Zisserman 2015, table 1, column D), with torchvision's names.

The five stages of the encoder (64, 128, 256, 512, 512 channels, 14,714,688 parameters) are the U-Net's levels, as in
TernausNet (Iglovikov and Shvets 2018), which does so with VGG11: the map before each pooling is a skip, the last
stage's is the lowest. Decoder levels are a 2x2 transposed convolution, concatenation and two 3x3 convolutions with
batch norm.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from segops.models.blocks import Backbone, SegmentationNetwork, UpBlock

_CONVOLUTIONS = (2, 2, 3, 3, 3)
_WIDTHS = (1, 2, 4, 8, 8)


class VGG16(Backbone):
    """VGG16's encoder: maps of 1, 1/2, 1/4, 1/8 and 1/16 of the height and width.

    Args:
        channels: of the image.
        width: channels of the first stage; published weights are of 64.
        batch_norm: torchvision's vgg16_bn.
    """

    first = "features.0.weight"

    def __init__(self, channels: int, width: int, *, batch_norm: bool) -> None:
        super().__init__()
        self.channels = tuple(width * times for times in _WIDTHS)
        self.features = nn.Sequential()
        self._ends: list[int] = []  # of the stages, the pooling before each included
        inputs = channels
        for index, (outputs, count) in enumerate(zip(self.channels, _CONVOLUTIONS, strict=True)):
            if index:
                self.features.append(nn.MaxPool2d(2))
            for _ in range(count):
                self.features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                if batch_norm:
                    self.features.append(nn.BatchNorm2d(outputs))
                self.features.append(nn.ReLU(inplace=True))
                inputs = outputs
            self._ends.append(len(self.features))

    def stages(self) -> list[nn.Module]:
        """Return the five groups of convolutions at the same size."""
        begins = [0, *self._ends[:-1]]
        return [self.features[begin:end] for begin, end in zip(begins, self._ends, strict=True)]

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return five feature maps, finest first."""
        x_BCHW, maps = image_BCHW, []
        for stage in self.stages():
            x_BCHW = stage(x_BCHW)
            maps.append(x_BCHW)
        return maps


class VGG16UNet(SegmentationNetwork):
    """U-Net with a VGG16 encoder.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        width: channels of the encoder's first stage.
        batch_norm: in the encoder; the decoder always has it.
    """

    def __init__(self, channels: int, outputs: int, *, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.multiple = 16
        self.encoder = VGG16(channels, width, batch_norm=batch_norm)
        *skips, low = self.encoder.channels
        self.decoder = nn.ModuleList()
        for skip in reversed(skips):
            self.decoder.append(UpBlock(low, skip, skip, up=skip))
            low = skip
        self.output = nn.Conv2d(low, outputs, 1)

    def backbone(self) -> Backbone:
        """Return the encoder, VGG16."""
        return self.encoder

    def lowest(self) -> nn.Module:
        """Return the encoder's last layer."""
        return self.encoder.features[-1]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        *skips, x_BCHW = self.encoder(image_BCHW)
        for block in self.decoder:
            x_BCHW = block(x_BCHW, skips.pop())
        logits_BKHW: Tensor = self.output(x_BCHW)
        return logits_BKHW
