"""Every entry of the catalogue: its size, from its source or a layer table by hand, and a small configuration."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from segops.params.levels import Level, plan_levels
from segops.params.model import ModelParams, levels_of_volumes


@dataclass(frozen=True)
class Entry:
    """Attributes:
    published: params; the architecture's defaults where nothing else is given.
    channels: of the image.
    parameters: trainable.
    statistics: running means and variances.
    small: params for what takes time.
    variant: of a class of networks that another entry takes through the longest tests.
    patch: of a network for volumes, the size of its patches: of the published configuration, and of `small`.
    spacing_mm: of their voxels, by which axes are halved.
    """

    name: str
    published: ModelParams
    channels: int
    parameters: int
    statistics: int
    small: ModelParams
    variant: bool = False
    patch: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    spacing_mm: tuple[float, ...] | None = None

    @property
    def levels(self) -> tuple[list[Level] | None, list[Level] | None]:
        """Strides and kernels of the published configuration and of `small`; None for images."""
        if self.patch is None:
            return None, None
        plans = [
            plan_levels(patch, self.spacing_mm, levels_of_volumes(params))
            for patch, params in zip(self.patch, (self.published, self.small), strict=True)
        ]
        return plans[0], plans[1]


def model_params(architecture: str, **given: Any) -> ModelParams:
    """An architecture's params."""
    params: ModelParams = TypeAdapter(ModelParams).validate_python({"architecture": architecture, **given})
    return params


# ------------------------------------------------------------------------------------ layer tables, one line a layer


def conv(inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> int:
    """A convolution, transposed or not."""
    return inputs * outputs * kernel**2 + bias * outputs


def norm(*channels: int) -> int:
    """Scale and shift of batch or instance norms."""
    return 2 * sum(channels)


def double(inputs: int, outputs: int, *, batch_norm: bool = True) -> int:
    """Twice 3x3, each with batch norm where there is one."""
    return conv(inputs, outputs) + conv(outputs, outputs) + batch_norm * norm(outputs, outputs)


def unet_compact() -> int:
    down = sum(double(i, o, batch_norm=False) for i, o in ((1, 64), (64, 128), (128, 256)))
    up = sum(conv(i, o, 2) + double(2 * o, o, batch_norm=False) for i, o in ((256, 128), (128, 64)))
    return down + up + conv(64, 1, 1)


def resunet_plus_plus() -> tuple[int, int]:
    """Trainable and statistics, of m_resunet.py with RGB images."""

    def excitation(width: int) -> int:
        return 2 * width * (width // 8)

    def block(i: int, o: int) -> int:
        return norm(i) + conv(i, o) + norm(o) + conv(o, o) + conv(i, o, 1) + norm(o) + excitation(o)

    def pyramid(i: int, o: int) -> int:
        return 4 * (conv(i, o) + norm(o)) + conv(o, o, 1)

    def attention(skip: int, low: int) -> int:
        return norm(skip, low, low) + conv(skip, low) + 2 * conv(low, low)

    stem = conv(3, 16) + norm(16) + conv(16, 16) + conv(3, 16, 1) + norm(16) + excitation(16)
    encoder = block(16, 32) + block(32, 64) + block(64, 128)
    decoder = (
        attention(64, 256) + block(320, 128) + attention(32, 128) + block(160, 64) + attention(16, 64) + block(80, 32)
    )
    ends = pyramid(128, 256) + pyramid(32, 16) + conv(16, 1, 1)
    normed = 2 * 16 + (16 + 2 * 32) + (32 + 2 * 64) + (64 + 2 * 128) + 4 * 256 + 4 * 16
    normed += (64 + 2 * 256) + (320 + 2 * 128) + (32 + 2 * 128) + (160 + 2 * 64) + (16 + 2 * 64) + (80 + 2 * 32)
    return stem + encoder + decoder + ends, 2 * normed


def attention_unet() -> tuple[int, int]:
    """Gates on three of the four skips, supervision of three coarser levels; grey images."""

    def gate(skip: int, signal: int) -> int:
        theta, phi, psi = conv(skip, skip, 2, bias=False), conv(signal, skip, 1), conv(skip, 1, 1)
        return theta + phi + psi + conv(skip, skip, 1) + norm(skip)

    down = sum(double(i, o) for i, o in ((1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)))
    up = sum(conv(i, o, 2) + double(2 * o, o) for i, o in ((1024, 512), (512, 256), (256, 128), (128, 64)))
    gates = gate(512, 1024) + gate(256, 512) + gate(128, 256)
    heads = sum(conv(width, 1, 1) for width in (64, 128, 256, 512))
    statistics = 2 * (2 * (64 + 128 + 256 + 512 + 1024) + 2 * (512 + 256 + 128 + 64) + 512 + 256 + 128)
    return down + up + gates + heads, statistics


# m of each block's output in table 2 of Jégou et al. 2017: 112, 192, 304, 464, 656 down, 896 in the bottleneck, 1088,
# 816, 576 (the table says 578), 384, 256 up.
TIRAMISU_103 = {"growth_rate": 16, "layers": (4, 5, 7, 10, 12), "bottleneck_layers": 15, "stem_filters": 48}


def tiramisu_103() -> tuple[int, int]:
    def layer(i: int, o: int, kernel: int = 3) -> int:
        return norm(i) + conv(i, o, kernel)

    total, normed = conv(3, 48), 0
    blocks: list[tuple[int, int]] = [(48, 112), (112, 192), (192, 304), (304, 464), (464, 656), (656, 896)]
    blocks += [(896, 1088), (656, 816), (464, 576), (304, 384), (192, 256)]  # what goes in: upsampled and skip
    for first, last in blocks:
        for i in range(first, last, 16):
            total, normed = total + layer(i, 16), normed + i
    for width in (112, 192, 304, 464, 656):
        total, normed = total + layer(width, width, 1), normed + width
    for new in (240, 192, 160, 112, 80):  # transposed convolutions of a block's new channels
        total += conv(new, new)
    return total + conv(256, 1, 1), 2 * normed


def mobile_unet() -> tuple[int, int]:
    def separable(i: int, o: int) -> tuple[int, int]:
        return 9 * i + norm(i) + conv(i, o, 1, bias=False) + norm(o), 2 * (i + o)

    layers = [(64, 64)]
    for i, o in ((64, 128), (128, 256), (256, 512), (512, 1024)):
        layers += [(i, o), (o, o)]
    for low, skip in ((1024, 512), (512, 256), (256, 128), (128, 64)):
        layers += [(low + skip, skip), (skip, skip)]
    counts = [separable(i, o) for i, o in layers]
    first = conv(1, 64, bias=False) + norm(64)
    return first + sum(count for count, _ in counts) + conv(64, 1, 1), 128 + sum(values for _, values in counts)


def dynunet() -> int:
    def block(i: int, o: int) -> int:
        return conv(i, o, bias=False) + conv(o, o, bias=False) + norm(o, o)

    widths = (32, 64, 128, 256, 512, 512)
    down = block(1, 32) + sum(block(i, o) for i, o in pairwise(widths))
    up = sum(conv(i, o, 2, bias=False) + block(2 * o, o) for o, i in pairwise(widths))
    heads = sum(conv(width, 1, 1) for width in (32, 64, 128, 256))
    return down + up + heads


def atrous_resnet50_unet() -> tuple[int, int]:
    def up(i: int, between: int, skip: int, o: int) -> int:
        return conv(i, between, 2) + double(between + skip, o)

    def atrous(width: int) -> int:
        half = width // 2
        return conv(width, half, 1) + 3 * conv(width, half) + norm(3 * width) + conv(3 * width, width, 1) + norm(width)

    resnet50 = 25_557_032 - (2048 * 1000 + 1000)  # without the classifier
    bridge = double(2048, 2048)
    decoder = up(2048, 1024, 1024, 1024) + up(1024, 512, 512, 512) + up(512, 256, 256, 256)
    decoder += up(256, 128, 64, 128) + up(128, 64, 3, 64)
    skips = sum(atrous(width) for width in (1024, 512, 256, 64))
    # ResNet50: 64, then for each block 2 w + 4 w, and 4 w at each layer's shortcut.
    normed = 64 + sum(w * 6 * blocks + 4 * w for w, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)))
    normed += 2 * (2048 + 1024 + 512 + 256 + 128 + 64) + 4 * (1024 + 512 + 256 + 64)
    return resnet50 + bridge + decoder + skips + conv(64, 1, 1), 2 * normed


def vgg16_unet() -> int:
    vgg16 = 138_357_544 - (512 * 49 * 4096 + 4096) - (4096 * 4096 + 4096) - (4096 * 1000 + 1000)
    ups = ((512, 512), (512, 256), (256, 128), (128, 64))
    return vgg16 + sum(conv(i, o, 2) + double(2 * o, o) for i, o in ups) + conv(64, 1, 1)


def efficientnet_unet() -> int:
    b0 = 5_288_548 - (1280 * 1000 + 1000) - (conv(320, 1280, 1, bias=False) + norm(1280))
    ups = ((320, 112, 256), (256, 40, 128), (128, 24, 64), (64, 16, 32))
    decoder = sum(conv(low, o, 2) + double(o + skip, o) for low, skip, o in ups)
    return b0 + decoder + conv(32, 16, 2) + double(16, 16) + conv(16, 1, 1)


def efficientnet_lite_unet() -> tuple[int, int]:
    """Lite0's encoder is B0's without what squeezes and excites, a 1x1 convolution down and up in each of 16 blocks."""
    inputs = (32, *(6 * width for width in (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192)))
    before = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192)
    squeezed = sum(conv(wide, i // 4, 1) + conv(i // 4, wide, 1) for wide, i in zip(inputs, before, strict=True))
    return efficientnet_unet() - squeezed, 41_440


def conv3(inputs: int, outputs: int, *kernel: int) -> int:
    """A convolution of volumes with bias, transposed or not; a side for all axes, or each."""
    sides = kernel if len(kernel) == 3 else kernel * 3
    return inputs * outputs * sides[0] * sides[1] * sides[2] + outputs


def vnet() -> tuple[int, int]:
    def block(width: int, count: int) -> int:
        return count * (conv3(width, width, 5) + norm(width) + width)  # with PReLU

    total = conv3(1, 16, 5) + norm(16) + 16
    widths, counts = (16, 32, 64, 128, 256), (1, 2, 3, 3, 3)
    for (above, width), count in zip(pairwise(widths), counts[1:], strict=True):
        total += conv3(above, width, 2) + width + block(width, count)
    lows = (256, 256, 128, 64)
    for low, skip, count in zip(lows, (128, 64, 32, 16), (3, 3, 2, 1), strict=True):
        total += conv3(low, skip, 2) + skip + block(2 * skip, count)
    normed = 16 + sum(width * count for width, count in zip(widths[1:], counts[1:], strict=True))
    return total + conv3(32, 1, 1), 2 * (normed + 2 * (128 * 3 + 64 * 3 + 32 * 2 + 16))


def resunet_3d() -> tuple[int, int]:
    def block(i: int, o: int) -> int:
        return norm(i) + conv3(i, o, 3) + norm(o) + conv3(o, o, 3) + conv3(i, o, 1)

    stem = conv3(1, 16, 3) + norm(16) + conv3(16, 16, 3) + conv3(1, 16, 1) + norm(16)
    down = [(16, 32), (32, 64), (64, 128), (128, 256)]
    up = [(256 + 128, 256), (256 + 64, 128), (128 + 32, 64), (64 + 16, 32)]
    bridge = 2 * (norm(256) + conv3(256, 256, 3))
    normed = 2 * 16 + sum(i + o for i, o in down + up) + 2 * 256
    return stem + sum(block(i, o) for i, o in down + up) + bridge + conv3(32, 1, 1), 2 * normed


def dynunet_3d() -> int:
    """With slices 3 mm apart and pixels of 1 mm: the first kernel, and the first stride, are flat."""

    def block(i: int, o: int, *kernel: int) -> int:
        return conv3(i, o, *kernel) - o + conv3(o, o, *kernel) - o + norm(o, o)

    flat, full = (1, 3, 3), (3, 3, 3)
    levels = [(1, 32, flat), (32, 64, full), (64, 128, full), (128, 256, full)]
    down = sum(block(i, o, *kernel) for i, o, kernel in levels)
    up = conv3(256, 128, 2) - 128 + block(256, 128, *full) + conv3(128, 64, 2) - 64 + block(128, 64, *full)
    up += conv3(64, 32, 1, 2, 2) - 32 + block(64, 32, *full)  # MONAI's decoder has the kernel of the level below
    return down + up + conv3(32, 1, 1) + conv3(64, 1, 1)


# ------------------------------------------------------------------------------------------------------- the entries

CATALOGUE = (
    Entry("unet", model_params("unet"), 1, 31_030_593, 0, model_params("unet", base_filters=4, depth=3)),
    Entry(
        "unet-bn-dropout",
        model_params("unet", batch_norm=True, dropout_bottleneck=0.5, dropout_decoder=0.2),
        1,
        # batch norm adds a weight and a bias for each of the 2 x (64 + 128 + 256 + 512) x 2 + 2 x 1024 channels
        31_030_593 + 2 * 5_888,
        2 * 5_888,
        model_params("unet", base_filters=4, depth=2, batch_norm=True, dropout_bottleneck=0.1, dropout_decoder=0.1),
        variant=True,
    ),
    Entry(
        "unet_compact",
        model_params("unet_compact"),
        1,
        1_861_697,
        0,
        model_params("unet_compact", base_filters=4),
        True,
    ),
    Entry("resunet", model_params("resunet"), 3, 4_713_841, 5_376, model_params("resunet", filters=(4, 8, 16))),
    Entry(
        "resunet-shortcut-bn",
        model_params("resunet", shortcut_bn=True),
        3,
        4_715_761,
        7_296,
        model_params("resunet", filters=(4, 8), shortcut_bn=True),
        variant=True,
    ),
    Entry(
        "resunet_bn", model_params("resunet_bn"), 1, 4_715_441, 7_296, model_params("resunet_bn", filters=(4, 8)), True
    ),
    Entry(
        "resunet_plus_plus",
        model_params("resunet_plus_plus"),
        3,
        *resunet_plus_plus(),
        model_params("resunet_plus_plus", filters=(4, 8, 8, 16), se_ratio=1),
    ),
    Entry(
        "attention_unet",
        model_params("attention_unet"),
        1,
        *attention_unet(),
        model_params("attention_unet", base_filters=4, depth=3),
    ),
    Entry(
        "unet_plus_plus",
        model_params("unet_plus_plus"),
        1,
        9_041_601 + 3 * conv(32, 1, 1),  # the public code's, and three more heads
        0,
        model_params("unet_plus_plus", base_filters=4, depth=3),
    ),
    Entry(
        "unet_plus_plus-single",
        model_params("unet_plus_plus", deep_supervision=False),
        1,
        9_041_601,
        0,
        model_params("unet_plus_plus", base_filters=4, depth=2, deep_supervision=False, batch_norm=True, dropout=0.1),
        variant=True,
    ),
    Entry(
        "dense_unet",
        model_params("dense_unet", **TIRAMISU_103),
        3,
        *tiramisu_103(),
        model_params("dense_unet", growth_rate=4, layers=(2, 2), bottleneck_layers=2, stem_filters=8, dropout=0.1),
    ),
    Entry(
        "mobile_unet", model_params("mobile_unet"), 1, *mobile_unet(), model_params("mobile_unet", depth=2, width=0.125)
    ),
    Entry("dynunet", model_params("dynunet"), 1, dynunet(), 0, model_params("dynunet", filters=(4, 8, 8, 8))),
    Entry(
        "dynunet-residual-single",
        model_params("dynunet", residual=True, deep_supervision=False),
        1,
        # each block that changes its width or size has a 1x1 shortcut with instance norm; the other heads go
        dynunet()
        + sum(conv(i, o, 1, bias=False) + norm(o) for i, o in ((1, 32), (32, 64), (64, 128), (128, 256), (256, 512)))
        + conv(512, 512, 1, bias=False)
        + norm(512)
        - sum(conv(width, 1, 1) for width in (64, 128, 256)),
        0,
        model_params("dynunet", filters=(4, 8, 8, 8), residual=True, deep_supervision=False),
        variant=True,
    ),
    Entry(
        "unet_3d",
        model_params("unet_3d"),
        3,
        # Çiçek et al. 2016, section 3: three logits, here it is one; they count neither batch norm's scales and shifts
        # nor the biases of transposed convolutions
        19_069_955
        - 2 * conv3(64, 1, 1)
        + 2 * (32 + 2 * (64 + 128 + 256) + 512 + 2 * (256 + 128 + 64))
        + 512
        + 256
        + 128,
        2 * (32 + 2 * 64 + 2 * 128 + 2 * 256 + 512 + 2 * (256 + 128 + 64)),
        model_params("unet_3d", base_filters=2, depth=2),
        patch=((64, 64, 64), (16, 16, 16)),
    ),
    Entry(
        "vnet",
        model_params("vnet"),
        1,
        *vnet(),
        model_params("vnet", base_filters=4, depth=2),
        patch=((64, 64, 64), (16, 16, 16)),
    ),
    Entry(
        "resunet_3d",
        model_params("resunet_3d"),
        1,
        *resunet_3d(),
        model_params("resunet_3d", filters=(4, 8, 8)),
        patch=((64, 64, 64), (16, 16, 16)),
    ),
    Entry(
        "dynunet-3d",
        model_params("dynunet", filters=(32, 64, 128, 256)),
        1,
        dynunet_3d(),
        0,
        model_params("dynunet", filters=(4, 8, 8, 8)),
        patch=((32, 96, 96), (16, 32, 32)),
        spacing_mm=(3.0, 1.0, 1.0),
    ),
    Entry(
        "atrous_resnet50_unet",
        model_params("atrous_resnet50_unet"),
        3,
        *atrous_resnet50_unet(),
        model_params("atrous_resnet50_unet", width=4),
    ),
    Entry(
        "vgg16_unet",
        model_params("vgg16_unet"),
        3,
        vgg16_unet(),
        2 * 2 * (512 + 256 + 128 + 64),
        model_params("vgg16_unet", width=4, batch_norm=True),
    ),
    Entry(
        "efficientnet_unet",
        model_params("efficientnet_unet"),
        3,
        efficientnet_unet(),
        41_440,
        model_params("efficientnet_unet", decoder_filters=(8, 8, 8, 8, 8), stochastic_depth=0.0),
    ),
    Entry(
        "efficientnet_lite_unet",
        model_params("efficientnet_lite_unet"),
        3,
        *efficientnet_lite_unet(),
        model_params("efficientnet_lite_unet", decoder_filters=(8, 8, 8, 8, 8), stochastic_depth=0.0),
    ),
)
