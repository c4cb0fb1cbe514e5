"""A program as an ONNX file for images of any number, height and width.

Axes: B batch, C channels, H height, W width; volumes have a depth D before H.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segops.errors import UserError
from segops.export.fold_head import fold_heads
from segops.inference.program import Program

INPUT, OUTPUT = "image", "probability"
_EXAMPLE = (11, 37, 41)  # depth, of volumes alone, height and width; odd sides hide no divisor


def write_onnx(program: Program, path: Path) -> None:
    """Write a program as ONNX: `image` (B, C, H, W) to `probability` (B, K, H, W), float32, all but C and K dynamic.

    Of a network for volumes they are (B, C, D, H, W) and (B, K, D, H, W).

    The graph is what ONNX Runtime's basic optimizations leave of it: batch norm folded into convolutions, constants
    computed. These hold for every runtime and machine.

    Raises:
        UserError: a step of the input has no counterpart in ONNX.
    """
    sides = _EXAMPLE[-program.dimensions :]
    # A batch of 1 would freeze the batch size.
    image_BCHW = torch.rand(2, program.channels, *sides, generator=torch.Generator().manual_seed(0))
    auto = torch.export.Dim.DYNAMIC
    write_graph(program, image_BCHW, ({axis: auto for axis in range(image_BCHW.dim()) if axis != 1},), path)


def write_graph(program: nn.Module, example: Tensor, dynamic: tuple[dict[int, Any], ...], path: Path) -> None:
    """Write a module of one input as ONNX; see `write_onnx`.

    Args:
        example: an input.
        dynamic: the axes of the input that may have any size.
    """
    program = program.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    with _quiet(), torch.no_grad():
        try:
            made = torch.onnx.export(
                program,
                (example,),
                dynamo=True,
                optimize=False,
                dynamic_shapes=dynamic,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise UserError(
                f"torch.onnx can't translate this candidate's program ({_cause(error)}); its input steps need a "
                "runtime with torch"
            ) from None
    assert made is not None
    _fold(made.model)
    raw = path.with_name(f".{path.name}.raw")
    try:
        made.save(str(raw))
        _simplify(raw, path)
        fold_heads(path)
    finally:
        raw.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's notes on packages that this project doesn't use, inside the block."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _cause(error: BaseException) -> str:
    """Return the text of an error's innermost cause, in one line of at most 160 characters."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:160]


def _fold(model: Any) -> None:
    """Compute constants and join what is computed twice.

    Torch's own `optimize` would also rewrite nodes, and names the bounds of a clip after its input: two clips of one
    value get one bound, or none (onnxscript 0.7.2). One rule of it is needed: what has no bias is given zeros, to a 3D
    convolution in a shape that no runtime takes.
    """
    from onnxscript import ir, optimizer, rewriter
    from onnxscript.rewriter.rules.common import remove_optional_bias_from_conv_rule

    common = ir.passes.common
    optimizer.fold_constants(model)
    rewriter.rewrite(model, [remove_optional_bias_from_conv_rule])
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
    )(model)


def _simplify(raw: Path, path: Path) -> None:
    """Let ONNX Runtime apply its basic optimizations to the file `raw` and write the result to `path`."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])
