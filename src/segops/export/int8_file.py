"""An ONNX file whose convolutions compute in int8, quantized after training.

Weights are int8 by output channel, symmetric, of 7 bits; activations uint8, with ranges seen on calibration images
(Jacob et al. 2018). x86 processors without VNNI add two products of 8 bits in 16, which saturates; with weights of 7
bits it can't, so that a file gives the same on all of them (ONNX Runtime, "Quantize ONNX models", on U8S8). Resizing,
the activation at the end and all that isn't a convolution stays float32.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.export.onnx_file import INPUT


def write_int8(onnx: Path, path: Path, images: Iterator[npt.NDArray[np.float32]]) -> None:
    """Quantize an ONNX file with QuantizeLinear and DequantizeLinear nodes, which every ONNX runtime knows.

    Args:
        onnx: what `write_onnx` wrote.
        path: the file to write.
        images: image_BCHW for calibration.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the calibration images to ONNX Runtime one by one."""

        def get_next(self) -> dict[str, Any] | None:
            """Return the next image by input name, or None after the last."""
            image_BCHW = next(images, None)
            return None if image_BCHW is None else {INPUT: image_BCHW}

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises a pre-processing that `write_onnx` has done
    try:
        quantize_static(
            str(onnx),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        logging.root.setLevel(level)
