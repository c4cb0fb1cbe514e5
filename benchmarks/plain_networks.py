"""What our back ends are set beside: the network as a plain script of torch or of Keras runs it.

Each stands in a process of its own, which `segops` has set nothing of: freed memory that is kept, as a prediction of
ours keeps it, halves the time that torch's defaults take for a large image.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.ratios import Took, timed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from segops.models.blocks import SegmentationNetwork

DEFAULTS = "torch's defaults"
KERAS = "Keras"

Run = Callable[["npt.NDArray[np.uint8]"], object]


class PlainNetwork:
    """A network in a process of its own.

    Attributes:
        name: `DEFAULTS` or `KERAS`.
    """

    def __init__(self, name: str, filters: list[int], threads: int) -> None:
        self.name = name
        self._settings = (name, tuple(filters), threads)
        self._process = ProcessPoolExecutor(1, get_context("spawn"))

    def took(self, image_HWC: npt.NDArray[np.uint8], times: int) -> Took:
        """Return what the network takes for an image, as its own process times it."""
        return self._process.submit(_took, *self._settings, image_HWC, times).result()


def plain_networks(filters: list[int], threads: int) -> list[PlainNetwork]:
    """Return torch's defaults, and Keras where it is installed."""
    names = [DEFAULTS, *([KERAS] if find_spec("keras") else [])]
    return [PlainNetwork(name, filters, threads) for name in names]


def _took(name: str, filters: tuple[int, ...], threads: int, image_HWC: npt.NDArray[np.uint8], times: int) -> Took:
    return timed(partial(_built(name, filters, threads), image_HWC), times)


@cache
def _built(name: str, filters: tuple[int, ...], threads: int) -> Run:
    return {DEFAULTS: _torch, KERAS: _keras}[name](filters, threads)


def _network(filters: tuple[int, ...]) -> SegmentationNetwork:
    from segops.models.catalogue import build
    from segops.params.model import ResUNetParams

    return build(ResUNetParams(architecture="resunet", filters=list(filters)), channels=3, classes=2)


def _torch(filters: tuple[int, ...], threads: int) -> Run:
    """Run the network on the whole image in contiguous fp32."""
    import torch
    from torch.nn import functional as F

    from segops.models.decoder_block import DecoderBlock

    torch.set_num_threads(threads)
    network = _network(filters).eval()
    for module in network.modules():
        if isinstance(module, DecoderBlock):
            module.split = False

    @torch.inference_mode()
    def run(image_HWC: npt.NDArray[np.uint8]) -> object:
        image_1CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float() / 255
        height, width = image_1CHW.shape[2:]
        multiple = network.multiple
        return network(F.pad(image_1CHW, (0, -width % multiple, 0, -height % multiple)).contiguous()).sigmoid()

    return run


def _keras(filters: tuple[int, ...], threads: int) -> Run:
    """Run Keras' ResUNet, layer by layer the network of ours."""
    keras: Any = import_module("keras")
    import_module("tensorflow").config.threading.set_intra_op_parallelism_threads(threads)
    layers = keras.layers

    def convolved(x: Any, width: int, stride: int = 1) -> Any:
        return layers.Conv2D(width, 3, stride, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))

    def block(x: Any, width: int, stride: int) -> Any:
        inner = convolved(convolved(x, width, stride), width)
        return layers.Add()([layers.Conv2D(width, 1, stride)(x), inner])

    given = keras.Input((None, None, 3))
    stem = convolved(layers.Conv2D(filters[0], 3, padding="same")(given), filters[0])
    x = layers.Add()([stem, layers.BatchNormalization()(layers.Conv2D(filters[0], 1)(given))])
    skips = []
    for width in filters[1:]:
        skips.append(x)
        x = block(x, width, 2)
    x = convolved(convolved(x, filters[-1]), filters[-1])
    for width, skip in zip(reversed(filters[1:]), reversed(skips), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), width, 1)
    model = keras.Model(given, layers.Conv2D(1, 1, activation="sigmoid")(x))
    ours = sum(value.numel() for value in _network(filters).parameters())
    theirs = sum(weight.shape.num_elements() for weight in model.trainable_weights)
    assert theirs == ours, f"Keras' network has {theirs} weights, ours {ours}"

    def run(image_HWC: npt.NDArray[np.uint8]) -> object:
        import numpy as np

        height, width = image_HWC.shape[:2]
        padding = ((0, 0), (0, -height % 16), (0, -width % 16), (0, 0))
        return model.predict_on_batch(np.pad(image_HWC[None].astype(np.float32) / 255, padding))

    return run
