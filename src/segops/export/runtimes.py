"""The runtimes that exported files run on: each a function from image_BCHW to probability_BKHW, both float32 arrays.

Axes: B batch, C channels, K output channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from segops.export.onnx_file import INPUT
from segops.inference.preprocess import memory_layout
from segops.inference.program import Program

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


def lacking(*packages: str) -> str | None:
    """Say which packages are missing and how to install them; return None if all are there."""
    missing = [name for name in packages if find_spec(name) is None]
    return f"needs {' and '.join(missing)}: pip install 'segops[export]'" if missing else None


def with_torch(program: Program, device: str = "cpu") -> Run:
    """Return a function that runs the eager program, in the memory format in which it is fastest."""
    layout = memory_layout(program.dimensions)
    placed = program.to(device, memory_format=layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(image_BCHW: Floats) -> Floats:
        """Run the program on the device and return its probabilities as a NumPy array."""
        given = torch.from_numpy(image_BCHW).to(device, memory_format=layout)
        return np.asarray(placed(given).cpu().numpy(), np.float32)

    return run


def with_onnx_runtime(path: Path, threads: int) -> Run:
    """Return a function that runs an ONNX file on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image_BCHW: np.asarray(session.run(None, {INPUT: image_BCHW})[0], np.float32)


def with_openvino(
    path: Path, threads: int, *, precision: Literal["f32", "bf16"] = "f32", few_shapes: bool = False
) -> Run:
    """Return a function that runs an OpenVINO or ONNX file on the CPU.

    Args:
        precision: of all that isn't int8. OpenVINO's own choice depends on the processor.
        few_shapes: compile the file anew for each shape of image: frames of one size are computed up to twice as fast
            than by a graph of open sizes.
    """
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    core = openvino.Core()
    model = core.read_model(str(path))

    @cache
    def compiled(shape: tuple[int, ...] | None) -> Callable[[list[Floats]], Any]:
        if shape is not None:
            model.reshape(list(shape))
        return cast("Callable[[list[Floats]], Any]", core.compile_model(model, "CPU", settings))

    def run(image_BCHW: Floats) -> Floats:
        """Run the file and return its first output."""
        shape = image_BCHW.shape if few_shapes else None
        return np.asarray(compiled(shape)([image_BCHW])[0], np.float32)

    return run
