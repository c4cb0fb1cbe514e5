"""An ONNX file with fewer channels: whole filters are taken away, so that it is smaller and faster everywhere.

Channels between two convolutions are pruned, where nothing else reads them (Li et al. 2017, "Pruning Filters for
Efficient ConvNets", figure 3): batch norm, activations, pooling and sums of two convolutions may lie between. Which
channels stay is chosen by what the next convolution loses: pivots of the covariance of its input, weighted by its
filters. Nothing is trained: the channels that go are predicted, linearly, from those that stay, and the prediction is
folded into the next convolution's weights and bias (as in Kim et al. 2020, "Neuron Merging"). Only its rows at the
image's border, where padding isn't predicted, see less.

Axes: C channels of a convolution's input, K kept, R removed, O output channels, N pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.export.onnx_file import INPUT

Floats = npt.NDArray[np.floating[Any]]

# Operators whose output channel c depends on input channel c alone.
_NORMS = ("BatchNormalization", "InstanceNormalization")
_ALONE = ("AveragePool", "Clip", "Elu", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Relu", "Sigmoid")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MULTIPLE = 8  # channels stay a multiple of it: what vector units compute at once
_RIDGE = 1e-6  # of the mean variance


def write_pruned(onnx: Path, path: Path, images: Iterable[npt.NDArray[np.float32]], share: float) -> str:
    """Take away `share` of the channels of every such place.

    Args:
        onnx: what `write_onnx` wrote.
        path: the file to write.
        images: image_BCHW, over which the channels' statistics are taken.
        share: in (0, 1); a multiple of 8 channels stays at each place.

    Returns:
        What was done, for people. Where nothing could be taken away the file is the same graph.
    """
    from onnx import load_model, save_model

    graph = Graph(load_model(str(onnx)))
    places = [place for place in graph.places() if _kept(place.channels, share) < place.channels]
    before, removed = graph.parameters(), 0
    if places:
        statistics = _statistics(graph, [place.tensor for place in places], images)
        for place in places:
            kept = _kept(place.channels, share)
            removed += place.channels - kept
            _prune(graph, place, *statistics[place.tensor], kept)
    save_model(graph.proto(), str(path))
    left = graph.parameters() / before
    return f"{removed} channels at {len(places)} places removed, {left:.0%} of the parameters left"


@dataclass
class Place:
    """Channels that one convolution reads and nothing else.

    Attributes:
        tensor: the convolution's input.
        reader: the convolution.
        writers: the convolutions whose outputs, added, have these channels.
        between: operators on the way that hold a value a channel.
    """

    tensor: str
    reader: Any
    channels: int
    writers: list[Any] = field(default_factory=list)
    between: list[Any] = field(default_factory=list)


class Graph:
    """An ONNX graph whose constants are arrays."""

    def __init__(self, model: Any) -> None:
        from onnx import numpy_helper

        self.model = model
        self.constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        self._unshare()
        self._made_by = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, int] = {one.name: 1 for one in model.graph.output}
        for node in model.graph.node:
            for name in node.input:
                self._readers[name] = self._readers.get(name, 0) + 1

    def places(self) -> list[Place]:
        """Where channels can be pruned, in the graph's order."""
        found = []
        for node in self.model.graph.node:
            if node.op_type == "Conv" and self._groups(node) == 1 and self._held(node):
                place = Place(node.input[0], node, self.constants[node.input[1]].shape[1])
                if self._trace(place.tensor, place):
                    found.append(place)
        return found

    def _trace(self, tensor: str, place: Place) -> bool:
        """Follow a tensor to the convolutions that write it; False where another reader or operator is met."""
        node = self._made_by.get(tensor)
        if node is None or self._readers[tensor] != 1:
            return False
        if node.op_type in _CONVOLUTIONS:
            place.writers.append(node)
            return self._groups(node) == 1 and self._held(node)
        if node.op_type == "Add":
            return all(name not in self.constants and self._trace(name, place) for name in node.input)
        if node.op_type in _NORMS and self._held(node):
            place.between.append(node)
        elif node.op_type not in _ALONE:
            return False
        return self._trace(node.input[0], place)

    def _held(self, node: Any) -> bool:
        """Whether a node's arrays are constants."""
        return all(name in self.constants for name in node.input[1:])

    def _unshare(self) -> None:
        """Give every convolution and normalization arrays of its own; equal ones are stored once."""
        taken: set[str] = set()
        for number, node in enumerate(self.model.graph.node):
            for at, name in enumerate(node.input):
                if name in self.constants and node.op_type in (*_CONVOLUTIONS, *_NORMS):
                    if name in taken:
                        node.input[at] = f"{name}.{number}.{at}"
                        self.constants[node.input[at]] = self.constants[name]
                    taken.add(name)

    def _groups(self, node: Any) -> int:
        return next((int(one.i) for one in node.attribute if one.name == "group"), 1)

    def parameters(self) -> int:
        """Numbers in all constants."""
        return sum(array.size for array in self.constants.values())

    def proto(self) -> Any:
        """The model with its present arrays, checked."""
        import onnx
        from onnx import numpy_helper

        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        del made.graph.initializer[:]
        made.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in self.constants.items()
        )
        del made.graph.value_info[:]  # they hold the old shapes
        onnx.checker.check_model(made)
        return made


def _kept(channels: int, share: float) -> int:
    wanted = -(-round((1 - share) * channels) // _MULTIPLE) * _MULTIPLE
    return min(channels, max(_MULTIPLE, wanted))


def _statistics(
    graph: Graph, tensors: list[str], images: Iterable[npt.NDArray[np.float32]]
) -> dict[str, tuple[Floats, Floats]]:
    """Mean C and covariance CC over all pixels of all images, by tensor, in float64."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    watched = graph.proto()
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    pixels = dict.fromkeys(tensors, 0)
    sums: dict[str, Any] = dict.fromkeys(tensors, 0.0)
    products: dict[str, Any] = dict.fromkeys(tensors, 0.0)
    for image_BCHW in images:
        for name, seen_BCHW in zip(tensors, session.run(tensors, {INPUT: image_BCHW}), strict=True):
            seen_CN = np.moveaxis(seen_BCHW, 1, 0).reshape(seen_BCHW.shape[1], -1)
            pixels[name] += seen_CN.shape[1]
            sums[name] = sums[name] + seen_CN.sum(axis=1, dtype=np.float64)
            products[name] = products[name] + (seen_CN @ seen_CN.T).astype(np.float64)
    found = {}
    for name in tensors:
        mean_C = sums[name] / pixels[name]
        found[name] = mean_C, products[name] / pixels[name] - np.outer(mean_C, mean_C)
    return found


def _prune(graph: Graph, place: Place, mean_C: Floats, covariance_CC: Floats, kept: int) -> None:
    """Take channels away at one place, and let the reader make up for what can be predicted of them."""
    arrays = graph.constants
    weight_OCHW = arrays[place.reader.input[1]].astype(np.float64)
    stay = np.sort(pivots(covariance_CC * _outer_norms(weight_OCHW), kept))
    go = np.setdiff1d(np.arange(place.channels), stay)
    slope_RK, rest_R = _prediction(mean_C, covariance_CC, stay, go)
    merged = weight_OCHW[:, stay] + np.einsum("orhw,rk->okhw", weight_OCHW[:, go], slope_RK)
    constant_O = np.einsum("orhw,r->o", weight_OCHW[:, go], rest_R)
    arrays[place.reader.input[1]] = merged.astype(np.float32)
    _add_bias(graph, place.reader, constant_O.astype(np.float32))
    for node in place.between:
        for name in node.input[1:]:
            arrays[name] = arrays[name][stay]
    for node in place.writers:
        axis = 0 if node.op_type == "Conv" else 1
        arrays[node.input[1]] = np.take(arrays[node.input[1]], stay, axis=axis)
        if len(node.input) > 2:
            arrays[node.input[2]] = arrays[node.input[2]][stay]


def pivots(covariance_CC: Floats, wanted: int) -> npt.NDArray[np.intp]:
    """The channels that a pivoted Cholesky decomposition takes first.

    Each is the one whose variance, as far as those before don't explain it, is the largest.
    """
    left = covariance_CC.astype(np.float64).copy()
    chosen: list[int] = []
    for _ in range(wanted):
        variance_C = left.diagonal().copy()
        variance_C[chosen] = -np.inf
        pick = int(variance_C.argmax())
        chosen.append(pick)
        if variance_C[pick] > 0:
            left -= np.outer(left[:, pick], left[pick]) / variance_C[pick]
    return np.array(chosen)


def _outer_norms(weight_OCHW: Floats) -> Floats:
    norms_C = np.sqrt(np.square(weight_OCHW).sum(axis=(0, 2, 3)))
    return np.outer(norms_C, norms_C)


def _prediction(mean_C: Floats, covariance_CC: Floats, stay: Any, go: Any) -> tuple[Floats, Floats]:
    """Slopes RK and constants R of the removed channels' least-squares prediction from those that stay."""
    among_KK = covariance_CC[np.ix_(stay, stay)]
    ridge = _RIDGE * max(float(among_KK.diagonal().mean()), 1e-12)
    slope_RK = np.linalg.solve(among_KK + ridge * np.eye(len(stay)), covariance_CC[np.ix_(stay, go)]).T
    return slope_RK, mean_C[go] - slope_RK @ mean_C[stay]


def _add_bias(graph: Graph, node: Any, constant_O: npt.NDArray[np.float32]) -> None:
    if len(node.input) > 2:
        graph.constants[node.input[2]] = graph.constants[node.input[2]] + constant_O
        return
    name = f"{node.input[1]}.bias"
    graph.constants[name] = constant_O
    node.input.append(name)
