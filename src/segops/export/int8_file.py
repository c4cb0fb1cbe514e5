"""An ONNX file whose convolutions, transposed ones too, compute in int8, quantized after training.

Weights are int8 by output channel, symmetric, of 7 or 8 bits; activations uint8, with ranges seen on calibration images
(Jacob et al. 2018). x86 processors without VNNI add two products of 8 bits in 16, which saturates; with weights of 7
bits it can't, so that a file gives the same on all of them (ONNX Runtime, "Quantize ONNX models", on U8S8). Resizing,
the activation at the end and all that isn't a convolution stays float32.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from segops.export.onnx_file import INPUT

OPERATIONS = ["Conv", "ConvTranspose"]


def saturates() -> bool:
    """Say whether this processor's sums of weights of 8 bits saturate."""
    capabilities = torch.cpu.get_capabilities()
    x86 = capabilities.get("architecture") == "x86_64"
    return x86 and not (capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))


def write_int8(
    onnx: Path, path: Path, images: Iterator[npt.NDArray[np.float32]], weight_bits: Literal[7, 8] = 7
) -> None:
    """Quantize an ONNX file with QuantizeLinear and DequantizeLinear nodes, which every ONNX runtime knows.

    Args:
        onnx: what `write_onnx` wrote.
        path: the file to write.
        images: image_BCHW for calibration.
        weight_bits: 7 for any processor; 8 lose less, where sums don't saturate.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises a pre-processing that `write_onnx` has done
    try:
        with TemporaryDirectory() as scratch:
            quantize_static(
                str(onnx),
                str(path),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATIONS,
                per_channel=True,
                reduce_range=weight_bits == 7,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                calibration_cache_path=_ranges(onnx, images, Path(scratch)),
            )
    finally:
        logging.root.setLevel(level)


def _ranges(onnx: Path, images: Iterator[npt.NDArray[np.float32]], folder: Path) -> Path:
    """Compute the ranges of what convolutions read and give on images; return the file in `folder`.

    ONNX Runtime's calibrator lets it keep every tensor to the end of a pass, and the memory of all passes: 7.0 GB for
    images of 1040x1392, where 1.8 GB do if a tensor's range is taken as soon as it is there.
    """
    from onnxruntime import ExecutionOrder, GraphOptimizationLevel, InferenceSession, SessionOptions
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import MinMaxCalibrater, save_tensors_data

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the calibration images to ONNX Runtime one by one."""

        def get_next(self) -> dict[str, Any] | None:
            """Return the next image by input name, or None after the last."""
            image_BCHW = next(images, None)
            return None if image_BCHW is None else {INPUT: image_BCHW}

    calibrator = MinMaxCalibrater(onnx, OPERATIONS, str(folder / "augmented.onnx"))
    calibrator.augment_graph()
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL  # every tensor is there
    options.execution_order = ExecutionOrder.PRIORITY_BASED
    options.enable_cpu_mem_arena = False
    calibrator.infer_session = InferenceSession(calibrator.augmented_model_path, options, ["CPUExecutionProvider"])
    calibrator.collect_data(Reader())
    save_tensors_data(calibrator.compute_data(), folder / "ranges.json")
    return folder / "ranges.json"
