"""UNet++ (Zhou et al. 2018, "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", section 3).

Node X[i, j] is at level i, j steps along its skip: a double convolution of the upsampled X[i + 1, j - 1] and of all
X[i, 0..j-1] (equation 1). X[0, 1..depth] are the outputs of nested U-Nets of depth 1, 2, ...; deep supervision trains
all of them. Prediction takes the deepest (the paper's fast mode, unpruned). Blocks and channels (32 to 512, 2x2
transposed convolutions, no batch norm) are those of the public code, github.com/MrGiovanni/UNetPlusPlus,
model_logic.py, with 9,041,601 parameters for grey images without deep supervision.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segops.models.blocks import Convolution, SegmentationNetwork, double_conv, head_convolutions


class Node(nn.Module):
    """A 2x2 transposed convolution of the node below, concatenation with its left neighbours, a double convolution."""

    def __init__(self, width: int, lefts: int, *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.convs = double_conv((1 + lefts) * width, width, batch_norm=batch_norm, dropout=dropout)

    def forward(self, below_BCHW: Tensor, lefts: list[Tensor]) -> Tensor:
        """Return a map of `width` channels, at twice the height and width of the node below."""
        decoded: Tensor = self.convs(torch.cat([self.up(below_BCHW), *lefts], dim=1))
        return decoded


class UNetPlusPlus(SegmentationNetwork):
    """UNet++.

    Args:
        channels: of the image.
        outputs: K, logits per pixel.
        base_filters: channels of the first level; each of `depth` poolings doubles them.
        depth: number of 2x2 max poolings.
        batch_norm: after each 3x3 convolution.
        dropout: after each activation.
        deep_supervision: auxiliary logits of the nested U-Nets; all have the image's size.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        base_filters: int,
        depth: int,
        batch_norm: bool,
        dropout: float,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.multiple = 2**depth
        self.deep_supervision = deep_supervision and depth > 1
        widths = [base_filters * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            double_conv(above, width, batch_norm=batch_norm, dropout=dropout)
            for above, width in zip([channels, *widths], widths, strict=False)
        )
        # nodes[i][j - 1] is X[i, j].
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                Node(width, lefts, batch_norm=batch_norm, dropout=dropout) for lefts in range(1, depth - level + 1)
            )
            for level, width in enumerate(widths[:-1])
        )
        self.output = nn.Conv2d(base_filters, outputs, 1)
        nested = depth - 1 if deep_supervision else 0
        self.auxiliary = nn.ModuleList(nn.Conv2d(base_filters, outputs, 1) for _ in range(nested))

    def lowest(self) -> nn.Module:
        """Return the encoder's last level."""
        return self.encoder[-1]

    def heads(self) -> list[Convolution]:
        """Return the convolutions of X[0, depth], then of X[0, depth - 1] and on to X[0, 1]."""
        return head_convolutions(self.output, self.auxiliary)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Turn normalized images into logits_BKHW of the same height and width."""
        logits_BKHW: Tensor = self.output(self._top(image_BCHW)[-1])
        return logits_BKHW

    def forward_all(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return logits of all nested U-Nets at the image's size, the deepest first."""
        deepest_first = reversed(self._top(image_BCHW))
        return [head(x_BCHW) for head, x_BCHW in zip(self.heads(), deepest_first, strict=False)]

    def _top(self, image_BCHW: Tensor) -> list[Tensor]:
        """Return the maps X[0, 1..depth]."""
        row: list[list[Tensor]] = []  # row[i] is X[i, 0..j]
        x_BCHW = image_BCHW
        for level, convs in enumerate(self.encoder):
            x_BCHW = convs(x_BCHW if level == 0 else F.max_pool2d(x_BCHW, 2))
            row.append([x_BCHW])
        for step in range(1, len(row)):
            for level in range(len(row) - step):
                column = self.nodes[level]
                assert isinstance(column, nn.ModuleList)
                row[level].append(column[step - 1](row[level + 1][step - 1], row[level][:step]))
        return row[0][1:]
