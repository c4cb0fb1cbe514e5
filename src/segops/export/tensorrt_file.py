"""An ONNX file as a TensorRT engine, for the GPU that it is built on.

Axes: B batch, C channels, K output channels, H height, W width.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segops.errors import UserError
from segops.export.onnx_file import INPUT, OUTPUT
from segops.export.runtimes import Floats, Run

_SMALLEST_PX = 32


def lacking_tensorrt() -> str | None:
    """Say why no engine can be built here; return None if this machine can."""
    if not torch.cuda.is_available():
        return "needs an NVIDIA GPU, and torch sees none"
    return None if find_spec("tensorrt") else "needs NVIDIA's package: pip install tensorrt (its own licence)"


def write_tensorrt(
    onnx: Path, path: Path, channels: int, size_hw: tuple[int, int], largest_hw: tuple[int, int]
) -> None:
    """Build an engine that takes one image at a time in float32 and is fastest at `size_hw`, and write it to `path`.

    Args:
        onnx: what `write_onnx` wrote.
        path: the engine to write.
        channels: of the image.
        size_hw: the usual height and width.
        largest_hw: the largest ones that the engine takes.

    Raises:
        UserError: TensorRT can't take the graph; with its own first words.
    """
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx.read_bytes()):
        raise UserError(f"TensorRT can't take {onnx.name}: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    sizes = [(_SMALLEST_PX, _SMALLEST_PX), size_hw, largest_hw]
    profile.set_shape(INPUT, *[(1, channels, height, width) for height, width in sizes])
    config.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise UserError(f"TensorRT can't build an engine of {onnx.name}; its own words stand above")
    path.write_bytes(built)


def with_tensorrt(path: Path) -> Run:
    """Return a function that runs an engine on this machine's GPU, with its outputs in torch's memory."""
    import tensorrt as trt

    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    context: Any = engine.create_execution_context()
    stream = torch.cuda.Stream()

    def run(image_BCHW: Floats) -> Floats:
        """Run the engine on the GPU and return its probabilities as a NumPy array."""
        with torch.cuda.stream(stream):
            given = torch.from_numpy(image_BCHW).cuda()
            context.set_input_shape(INPUT, tuple(given.shape))
            made = torch.empty(tuple(context.get_tensor_shape(OUTPUT)), device="cuda")
            context.set_tensor_address(INPUT, given.data_ptr())
            context.set_tensor_address(OUTPUT, made.data_ptr())
            context.execute_async_v3(stream.cuda_stream)
            stream.synchronize()
        return np.asarray(made.cpu().numpy(), np.float32)

    return run
