"""nnU-Net's network (Isensee et al. 2021, "nnU-Net: a self-configuring method", online methods), by MONAI's DynUNet.

3x3 convolutions without biases, instance norm with learnt scale and shift, leaky ReLU of slope 0.01, strided instead of
pooled, 2x2 transposed convolutions; for volumes 3x3x3 ones, with kernels and strides by axis (`plan_levels`; MONAI's
decoder takes the kernel of the level below). Deep supervision covers all levels but the two lowest, bottleneck
included. MONAI makes the layers; they are run here, since its own `forward` stacks upsampled copies of the auxiliary
logits and holds its modules under two names each.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from segops.models.blocks import Convolution, SegmentationNetwork, convolution, head_convolutions
from segops.params.levels import Level


class DynUNet(SegmentationNetwork):
    """nnU-Net's network, of MONAI's layers.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        filters: channels by level; n filters halve height and width n - 1 times.
        residual: residual blocks.
        deep_supervision: auxiliary logits of the decoder levels at 1/2, 1/4, ..., by a 1x1 convolution.
        levels: of a network for volumes, as many as filters; None: for images.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        filters: tuple[int, ...],
        residual: bool,
        deep_supervision: bool,
        levels: Sequence[Level] | None = None,
    ) -> None:
        from monai.networks.nets import DynUNet as MonaiDynUNet

        super().__init__()
        count = len(filters)
        self.levels = levels
        # A doubling more than there are: instance norm needs more than 1 pixel at the lowest level.
        self.multiple = 2**count
        self.deep_supervision = deep_supervision
        flat = Level((1, 1), (3, 3)), *[Level((2, 2), (3, 3))] * (count - 1)
        kernels, strides = ([getattr(level, part) for level in levels or flat] for part in ("kernel", "stride"))
        monai_net = MonaiDynUNet(
            spatial_dims=self.dimensions,
            in_channels=channels,
            out_channels=outputs,
            kernel_size=kernels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=filters,
            res_block=residual,
        )
        self.encoder = nn.ModuleList([monai_net.input_block, *monai_net.downsamples])
        self.bottleneck: nn.Module = monai_net.bottleneck
        self.decoder = monai_net.upsamples
        point = (1,) * self.dimensions
        self.output = convolution(filters[0], outputs, point)
        supervised = filters[1 : count - 2] if deep_supervision else ()
        self.auxiliary = nn.ModuleList(convolution(width, outputs, point) for width in supervised)

    def lowest(self) -> nn.Module:
        """Return the bottleneck."""
        return self.bottleneck

    def heads(self) -> list[Convolution]:
        """Return the output's convolution, then those of coarser levels."""
        return head_convolutions(self.output, self.auxiliary)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        logits_BKHW: Tensor = self.output(self._decoded(image_BCHW)[0])
        return logits_BKHW

    def forward_all(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return logits at the image's size, then at 1/2, 1/4, ... of it."""
        return [head(x_BCHW) for head, x_BCHW in zip(self.heads(), self._decoded(image_BCHW), strict=False)]

    def _decoded(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the decoder's maps, finest first."""
        x_BCHW, skips = image_BCHW, []
        for block in self.encoder:
            x_BCHW = block(x_BCHW)
            skips.append(x_BCHW)
        x_BCHW = self.bottleneck(x_BCHW)
        maps: list[Tensor] = []
        for block in self.decoder:
            x_BCHW = block(x_BCHW, skips.pop())
            maps.insert(0, x_BCHW)
        return maps
