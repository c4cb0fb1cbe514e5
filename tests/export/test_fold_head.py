"""The last 1x1 convolution is moved into what it reads: the same outputs, and the widest map is never made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from segops.export.fold_head import fold_heads
from segops.export.onnx_file import write_graph
from segops.models.catalogue import build, initialize
from segops.params.model import ResUNetParams
from tests.support.model_entries import CATALOGUE, Entry

IMAGE_BCHW = np.random.default_rng(0).standard_normal((2, 3, 8, 6), np.float32)

Node = tuple[str, list[str], str, Mapping[str, object]]  # kind, inputs, output, attributes


def write(path: Path, nodes: list[Node], weights: dict[str, npt.NDArray[np.float32]], *more_outputs: str) -> Path:
    """Write a graph of `image` to `out`, and to `more_outputs`."""
    made = [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes]
    image, *outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", "out", *more_outputs)
    )
    stored = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(made, "test", [image], outputs, stored)
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), str(path))
    return path


def kinds(path: Path) -> list[str]:
    return sorted(node.op_type for node in onnx.load(str(path)).graph.node)


def outputs(path: Path) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["out"], {"image": IMAGE_BCHW})[0])


def drawn(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


SAME = {"pads": [1, 1, 1, 1]}
TWICE = np.array([1, 1, 2, 2], np.float32)
HEAD: Node = ("Conv", ["sum", "head", "head_bias"], "out", {})
TWO: list[Node] = [
    ("Conv", ["image", "wide", "wide_bias"], "a", SAME),
    ("Conv", ["image", "point"], "b", {}),
    ("Add", ["a", "b"], "sum", {}),
]
WEIGHTS = {
    "wide": drawn(5, 3, 3, 3),
    "wide_bias": drawn(5),
    "point": drawn(5, 3, 1, 1),
    "head": drawn(1, 5, 1, 1),
    "head_bias": drawn(1),
}


def test_a_head_and_the_convolution_before_it_are_the_product_of_their_weights(tmp_path: Path) -> None:
    weights = {"first": np.array([[[[2.0]]], [[[3.0]]]], np.float32), "first_bias": np.array([1.0, 10.0], np.float32)}
    weights |= {"head": np.array([[[[5.0]], [[7.0]]]], np.float32), "head_bias": np.array([100.0], np.float32)}
    nodes: list[Node] = [("Conv", ["red", "first", "first_bias"], "sum", {}), HEAD]
    red: Node = ("Slice", ["image", "zero", "single", "single"], "red", {})
    weights |= {"zero": np.array([0]), "single": np.array([1])}
    path = write(tmp_path / "net.onnx", [red, *nodes], weights)

    fold_heads(path)

    stored = {weight.name: numpy_helper.to_array(weight) for weight in onnx.load(str(path)).graph.initializer}
    assert kinds(path) == ["Conv", "Slice"]
    assert stored["sum.headed.weight"].item() == 5 * 2 + 7 * 3
    assert stored["sum.headed.bias"].item() == 5 * 1 + 7 * 10 + 100
    assert not set(stored) & {"first", "first_bias", "head", "head_bias"}


def test_a_sum_of_convolutions_transposed_and_enlarged_ones_makes_the_heads_channels(tmp_path: Path) -> None:
    nodes: list[Node] = [
        *TWO[:2],
        ("Conv", ["image", "halved"], "half", {"strides": [2, 2]}),
        ("Resize", ["half", "", "twice"], "c", {"mode": "nearest"}),
        ("ConvTranspose", ["image", "upward", "upward_bias"], "d", SAME),
        ("Add", ["a", "b"], "ab", {}),
        ("Add", ["c", "d"], "cd", {}),
        ("Add", ["ab", "cd"], "sum", {}),
        HEAD,
    ]
    weights = WEIGHTS | {"halved": drawn(5, 3, 1, 1), "twice": TWICE, "upward": drawn(3, 5, 3, 3)}
    path = write(tmp_path / "net.onnx", nodes, weights | {"upward_bias": drawn(5) + 1})
    before = outputs(path)

    fold_heads(path)

    assert kinds(path) == ["Add", "Add", "Add", "Conv", "Conv", "Conv", "ConvTranspose", "Resize"]
    np.testing.assert_allclose(outputs(path), before, atol=2e-5)


@pytest.mark.parametrize(
    ("nodes", "weights", "more_outputs"),
    [
        ([*TWO, HEAD, ("Relu", ["sum"], "also", {})], {}, ["also"]),  # another reader
        ([*TWO, HEAD], {}, ["sum"]),  # which is an output as well
        ([*TWO, HEAD], {"head": drawn(5, 5, 1, 1), "head_bias": drawn(5)}, []),  # of no fewer channels
        ([*TWO, ("Conv", ["sum", "head", "head_bias"], "out", {"strides": [2, 2]})], {}, []),
        ([*TWO, ("Conv", ["sum", "head", "head_bias"], "out", SAME)], {}, []),  # its border has the bias alone
        ([*TWO, ("Conv", ["sum", "head", "head_bias"], "out", SAME)], {"head": drawn(1, 5, 3, 3)}, []),
        ([*TWO[:2], ("Mul", ["a", "b"], "sum", {}), HEAD], {}, []),
        ([*TWO[:1], ("Relu", ["a"], "r", {}), ("Add", ["r", "r"], "sum", {}), HEAD], {}, []),
        ([*TWO[:1], ("Add", ["a", "shift"], "sum", {}), HEAD], {"shift": drawn(1, 5, 1, 1)}, []),
        (
            [("Conv", ["image", "apart"], "sum", {"group": 3}), HEAD],
            {"apart": drawn(6, 1, 1, 1), "head": drawn(1, 6, 1, 1)},
            [],
        ),
        (
            [*TWO[:1], ("Resize", ["a", "", "", "sizes"], "sum", {}), HEAD],
            {"sizes": np.array([2, 5, 16, 12])},
            [],
        ),
        (
            [*TWO[:1], ("Add", ["image_weight", "image_weight"], "w", {}), ("Conv", ["image", "w"], "sum", {}), HEAD],
            {"image_weight": drawn(5, 3, 1, 1)},
            [],
        ),
    ],
)
def test_what_cannot_be_moved_is_left_alone(
    nodes: list[Node], weights: dict[str, npt.NDArray[np.float32]], more_outputs: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "net.onnx", nodes, WEIGHTS | weights, *more_outputs)
    before = path.read_bytes()

    fold_heads(path)

    assert path.read_bytes() == before


def test_what_a_branch_reads_is_left_alone(tmp_path: Path) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["sum"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Sigmoid"))
    }
    branched: Node = ("If", ["condition"], "also", branches)
    path = write(tmp_path / "net.onnx", [*TWO, HEAD, branched], WEIGHTS | {"condition": np.array(True)}, "also")
    before = path.read_bytes()

    fold_heads(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("classes", [2, 4])
def test_a_resunets_last_convolution_is_gone_and_its_probabilities_stay(classes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(ResUNetParams(architecture="resunet", filters=(8, 12, 16)), channels=3, classes=classes)
    initialize(network, "he", 0.0)
    image_BCHW = torch.rand(2, 3, 32, 16)

    write_graph(network.eval(), image_BCHW, ({0: torch.export.Dim.DYNAMIC},), tmp_path / "net.onnx")

    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    last = next(node for node in graph.node if node.output[0] == graph.output[0].name)
    assert last.op_type == "Add"
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(image_BCHW).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image_BCHW.numpy()})[0], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_networks_file_gives_torchs_values(entry: Entry, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(entry.small, channels=entry.channels, classes=3, levels=entry.levels[1])
    initialize(network, "he", 0.0)
    sides = [4 * multiple for multiple in network.multiples]
    image = torch.rand(2, entry.channels, *sides)

    write_graph(network.eval(), image, ({0: torch.export.Dim.DYNAMIC},), tmp_path / "net.onnx")

    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(image).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image.numpy()})[0], expected, atol=2e-5 * expected.std())


@settings(max_examples=25, deadline=None)
@given(
    between=st.integers(2, 6),
    heads=st.integers(1, 5),
    kernels=st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4),
    biased=st.booleans(),
)
def test_outputs_stay_what_they_were(
    between: int, heads: int, kernels: list[int], biased: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nodes: list[Node] = []
    weights = {"head": drawn(heads, between, 1, 1)}
    for number, kernel in enumerate(kernels):
        bias = [f"bias{number}"] if biased else []
        pads = {"pads": [kernel // 2] * 4}
        nodes.append(("Conv", ["image", f"weight{number}", *bias], f"conv{number}", pads))
        weights |= {f"weight{number}": drawn(between, 3, kernel, kernel), f"bias{number}": drawn(between)}
        if number:
            nodes.append(("Add", [f"conv{number}", "conv0" if number == 1 else f"sum{number - 1}"], f"sum{number}", {}))
    nodes.append(("Conv", [nodes[-1][2], "head"], "out", {}))
    path = write(tmp_path_factory.mktemp("net") / "net.onnx", nodes, weights)
    before = outputs(path)

    fold_heads(path)

    assert (len(kinds(path)) < len(nodes)) == (heads < between)
    np.testing.assert_allclose(outputs(path), before, atol=1e-4)
