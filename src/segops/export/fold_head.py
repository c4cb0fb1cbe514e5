"""Moves a network's last convolution into the convolutions whose sum it reads.

A residual network ends in head(a(x) + up(b(y)) + c(z)), where `head` is a 1x1 convolution to a channel or a few. It is
linear and works pixel by pixel, so it commutes with sums and with interpolation, and a convolution after a convolution
is a convolution: the widest map of the network, all channels at full height and width, is never made.

Axes: O output channels, M channels between, I input channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_OUTPUTS = {"Conv": 0, "ConvTranspose": 1}  # the axis of a weight that its outputs have


class Head(NamedTuple):
    """A 1x1 convolution's weight_OM and bias_O."""

    weight_OM: npt.NDArray[np.float64]
    bias_O: npt.NDArray[np.float64]


def fold_heads(path: Path) -> None:
    """Rewrite an ONNX file whose 1x1 convolutions to fewer channels read a sum of convolutions that nothing else reads.

    Up to rounding the file's outputs stay what they were. A file without such convolutions is left alone.
    """
    import onnx

    model = onnx.load(str(path))
    graph = _Graph(model.graph)
    heads = [node for node in model.graph.node if graph.is_head(node) and graph.takes(node.input[0])]
    if not heads:
        return
    for node in heads:
        graph.fold(node)
    graph.tidy()
    onnx.save(model, str(path))


class _Graph:
    """An ONNX graph by the names of its values."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import numpy_helper

        self.graph, self._helper = graph, numpy_helper
        self.weights = {weight.name: weight for weight in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers = Counter(name for node in _nodes(graph) for name in node.input)
        self.readers.update(output.name for output in graph.output)

    def is_head(self, node: NodeProto) -> bool:
        """Say whether a node is a 1x1 convolution with known weights and fewer outputs than inputs."""
        if not self._convolves(node) or node.op_type != "Conv":
            return False
        outputs, inputs, *kernel = self.weights[node.input[1]].dims
        strides, pads = (_attribute(node, name) for name in ("strides", "pads"))
        return outputs < inputs and set(kernel) == {1} and set(strides or [1]) == {1} and not any(pads or [])

    def takes(self, name: str) -> bool:
        """Say whether a head can move to before a value: it is made of convolutions, sums and interpolation alone."""
        node = self.makers.get(name)
        if node is None or self.readers[name] != 1:
            return False
        if node.op_type == "Add":
            return all(self.takes(summand) for summand in node.input)
        if node.op_type == "Resize":
            by_factors = len(node.input) == 3  # `sizes`, the fourth input, would name the channels too
            return by_factors and self.takes(node.input[0])
        return self._convolves(node)

    def fold(self, node: NodeProto) -> None:
        """Move a head into what its input is made of, and take it out of the graph."""
        weight, *bias = (self._values(name) for name in node.input[1:])
        weight_OM = weight.reshape(weight.shape[:2])
        self._move(node.input[0], Head(weight_OM, bias[0] if bias else np.zeros(len(weight_OM))))
        self.makers[node.input[0]].output[0] = node.output[0]
        self.graph.node.remove(node)

    def tidy(self) -> None:
        """Drop weights that nothing reads any more, and the shapes of values, which have other channels now."""
        read = {name for node in _nodes(self.graph) for name in node.input}
        kept = [weight for weight in self.graph.initializer if weight.name in read]
        del self.graph.initializer[:], self.graph.value_info[:]
        self.graph.initializer.extend(kept)

    def _move(self, name: str, head: Head) -> None:
        """Let what makes a value make the head's value of it instead."""
        node = self.makers[name]
        if node.op_type == "Add":
            first, second = node.input
            self._move(first, head)
            self._move(second, head._replace(bias_O=np.zeros_like(head.bias_O)))
        elif node.op_type == "Resize":
            self._move(node.input[0], head)
        else:
            self._compose(node, head)

    def _compose(self, node: NodeProto, head: Head) -> None:
        """Give a convolution the weights of itself and the head after it."""
        weight, *bias = (self._values(name) for name in node.input[1:])
        axis = _OUTPUTS[node.op_type]
        weight = np.moveaxis(np.tensordot(head.weight_OM, weight, axes=(1, axis)), 0, axis)
        bias_O = head.weight_OM @ bias[0] + head.bias_O if bias else head.bias_O
        del node.input[1:]
        for part, values in (("weight", weight), ("bias", bias_O)):
            name = f"{node.output[0]}.headed.{part}"
            self.graph.initializer.append(self._helper.from_array(values.astype(np.float32), name))
            node.input.append(name)

    def _convolves(self, node: NodeProto) -> bool:
        known = all(name in self.weights for name in node.input[1:])
        return node.op_type in _OUTPUTS and known and _attribute(node, "group") in (None, 1)

    def _values(self, name: str) -> npt.NDArray[np.float64]:
        return np.asarray(self._helper.to_array(self.weights[name]), np.float64)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield a graph's nodes and those of the branches and loops in it, which read its values too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _attribute(node: NodeProto, name: str) -> Any:
    """Return the value of a node's attribute, None where it has none of that name."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)
