"""An ONNX file as OpenVINO's own format, an .xml with its .bin."""

from __future__ import annotations

from pathlib import Path


def write_openvino(onnx: Path, path: Path) -> None:
    """Convert an ONNX file to OpenVINO's format; the quantization of an int8 file becomes OpenVINO's.

    Args:
        onnx: what `write_onnx` or `write_int8` wrote.
        path: the .xml to write; the .bin is written beside it. Weights stay float32 or int8.
    """
    import openvino

    # Not `convert_model`, which reports its use to Intel.
    openvino.save_model(openvino.Core().read_model(str(onnx)), str(path), compress_to_fp16=False)
