"""docs/reference/models.md, measured on the networks themselves: `python -m tools.models_table [--check]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segops.files import MIB
from tools.generated import between, write_or_check

if TYPE_CHECKING:
    from segops.models.blocks import SegmentationNetwork

PAGE = Path("docs/reference/models.md")
BEGIN, END = "<!-- models: begin (make docs) -->", "<!-- models: end -->"


class Entry(NamedTuple):
    """An architecture at its default params, and what to say of it.

    Attributes:
        side_px: of the square image that it is measured with, the size that its source uses or 256.
        channels: of that image.
        depth_px: of a network for volumes, those of the patch that it is measured with.
    """

    architecture: str
    side_px: int
    channels: int
    best_use: str
    strengths: str
    limits: str
    source: str
    depth_px: int | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Sides of the image or patch."""
        plane = (self.side_px, self.side_px)
        return plane if self.depth_px is None else (self.depth_px, *plane)


ENTRIES = (
    Entry(
        "unet",
        256,
        1,
        "the reference that others are compared with",
        "simple; sharp borders by full-width skips",
        "heavy for its scores; without batch norm it wants a low learning rate",
        "Ronneberger et al. 2015, figure 1; same padding",
    ),
    Entry(
        "unet_compact",
        128,
        1,
        "small grey images, quick experiments",
        "two poolings; trains in minutes on a CPU",
        "sees little context (44 pixels across): large objects break up",
        "Ronneberger et al. 2015, three levels",
    ),
    Entry(
        "resunet",
        256,
        3,
        "the default: nuclei and cells at 256 pixels",
        "few parameters; shortcuts let it train fast; the decoder has a fast path of equal values",
        "narrow at full size; batches of a few images blur batch norm",
        "Zhang et al. 2018, figure 2, one level deeper",
    ),
    Entry(
        "resunet_bn",
        256,
        1,
        "the published customized residual U-Net",
        "as resunet, with steadier activations on the shortcuts",
        "as resunet; a little slower",
        "Zhang et al. 2018; batch norm on every shortcut",
    ),
    Entry(
        "resunet_plus_plus",
        256,
        3,
        "polyps and other objects of very different sizes",
        "channel attention and dilated views at two places",
        "full-size dilated convolutions cost time; dilation 18 exceeds small maps",
        "Jha et al. 2019, section III; public code m_resunet.py (ratio 8, rates 1, 6, 12, 18)",
    ),
    Entry(
        "attention_unet",
        256,
        1,
        "small organs or lesions in much background",
        "gates silence skips where nothing is; supervised at every level",
        "the largest plain U-Net here; gates help little where objects are everywhere",
        "Oktay et al. 2018, section 2; 2D",
    ),
    Entry(
        "unet_plus_plus",
        256,
        1,
        "objects whose right depth is unknown",
        "nested decoders, each supervised; can be pruned",
        "memory: every level is decoded several times",
        "Zhou et al. 2018, section 3; public code model_logic.py",
    ),
    Entry(
        "dense_unet",
        256,
        3,
        "few training images",
        "reuses features; few parameters",
        "slow and hungry for memory: each layer copies all before it",
        "Jégou et al. 2017, section 3, FC-DenseNet67",
    ),
    Entry(
        "mobile_unet",
        256,
        1,
        "prediction on small machines",
        "a ninth of a U-Net's parameters, a seventh of its work; `width` thins further",
        "trains with three times a U-Net's memory; depthwise convolutions are slow for their work",
        "Howard et al. 2017, section 3, in Ronneberger's levels",
    ),
    Entry(
        "dynunet",
        256,
        1,
        "an unknown dataset; batches of one or two",
        "nnU-Net's proven choices; instance norm needs no batch",
        "instance norm forgets absolute brightness; multiples of 64 pixels are padded to",
        "Isensee et al. 2021, online methods; MONAI's DynUNet",
    ),
    Entry(
        "atrous_resnet50_unet",
        512,
        3,
        "large images with structures of several scales, with ImageNet weights and a GPU",
        "published encoder; dilated views of every skip",
        "171 million parameters, of which the bridge has 76: overfits small sets, slow on CPUs",
        "U-Net with ResNet50 encoder and atrous convolutions, Cross-Building-Segmentation; He et al. 2016",
    ),
    Entry(
        "vgg16_unet",
        256,
        3,
        "transfer learning with a simple encoder",
        "full-size skips keep thin structures; published weights with and without batch norm",
        "much work at full size; an old encoder",
        "Simonyan and Zisserman 2015, table 1, D; Iglovikov and Shvets 2018",
    ),
    Entry(
        "efficientnet_unet",
        256,
        3,
        "transfer learning at little cost",
        "of the three encoders the most ImageNet accuracy per parameter; b0 to b7",
        "no skip at full size, so the finest borders are learnt late; depthwise convolutions",
        "Tan and Le 2019, tables 1 and 2, B0",
    ),
    Entry(
        "efficientnet_lite_unet",
        256,
        3,
        "transfer learning for prediction on small machines, in int8 too",
        "published weights as a small package; neither squeeze-and-excitation nor SiLU, which int8 takes badly",
        "no skip at full size; its weights want `normalize: symmetric`",
        "Liu 2020, EfficientNet-Lite; tensorflow/tpu, efficientnet/lite",
    ),
    Entry(
        "unet_3d",
        96,
        1,
        "volumes: the reference that others are compared with",
        "simple; kernels and poolings by spacing",
        "two convolutions of 64 channels at full size: most of its work and memory",
        "Çiçek et al. 2016, figure 2; same padding",
        48,
    ),
    Entry(
        "vnet",
        96,
        1,
        "volumes with large, smooth organs",
        "5x5x5 kernels see far at every level; residual levels",
        "the largest here; its kernels cost most of the time",
        "Milletari et al. 2016, figure 2; batch norm as in MONAI's VNet",
        48,
    ),
    Entry(
        "resunet_3d",
        96,
        1,
        "volumes on a CPU, or many candidates",
        "few parameters, narrow at full size",
        "no split decoder: its decoder does the whole work",
        "Zhang et al. 2018, in three dimensions",
        48,
    ),
)


class Measured(NamedTuple):
    """Of one image: trainable parameters, multiply-adds times two, and what the backward pass keeps."""

    parameters: int
    gflops: float
    kept_mib: float


def measure(entry: Entry) -> Measured:
    """Measure a network on torch's meta device, which computes shapes alone."""
    import torch
    from pydantic import TypeAdapter

    from segops.models.catalogue import build, count_parameters
    from segops.models.flops import gflops
    from segops.params.levels import plan_levels
    from segops.params.model import ModelParams, levels_of_volumes

    with torch.device("meta"):
        params = TypeAdapter(ModelParams).validate_python({"architecture": entry.architecture})
        levels = None if entry.depth_px is None else plan_levels(entry.size, None, levels_of_volumes(params))
        network = build(params, channels=entry.channels, classes=2, levels=levels)
        image_BCHW = torch.rand(1, entry.channels, *entry.size)
    computed = gflops(network, entry.channels, entry.size)
    return Measured(count_parameters(network), computed, _kept_bytes(network, image_BCHW) / MIB)


def _kept_bytes(network: SegmentationNetwork, image_BCHW: object) -> int:
    """Bytes of the tensors that autograd keeps for a training step, parameters and buffers aside."""
    import torch
    from torch import Tensor

    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train().forward_all(image_BCHW)  # type: ignore[arg-type]
    return sum(size for size, _ in kept.values())


def tables() -> str:
    """The figures, then what to say."""
    figures = ["| architecture | measured at | parameters | GFLOPs | memory, MiB |", "|---|---|---|---|---|"]
    words = ["| architecture | best use | strengths | limits | source |", "|---|---|---|---|---|"]
    for entry in ENTRIES:
        found = measure(entry)
        size = " x ".join(map(str, (*entry.size, entry.channels)))
        figures.append(
            f"| `{entry.architecture}` | {size} | {found.parameters:,} | {found.gflops:.1f} | {found.kept_mib:.0f} |"
        )
        words.append(
            f"| `{entry.architecture}` | {entry.best_use} | {entry.strengths} | {entry.limits} | {entry.source} |"
        )
    return "\n".join([*figures, "", *words])


def replace_tables(text: str) -> str:
    """Put the present tables between the two markers of the page's text."""
    return between(text, BEGIN, END, tables())


if __name__ == "__main__":
    write_or_check(PAGE, replace_tables, "the tables are not those of the networks")
