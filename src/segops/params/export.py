"""Defines the params of `segops export`: a trained candidate for other runtimes."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from segops.params.section import Section

Backend = Literal["torch", "torch-bf16", "onnx", "onnx-int8", "openvino", "openvino-bf16", "openvino-int8", "tensorrt"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


class ExportParams(Section):
    """How a model is exported: training images calibrate, validation images judge; the test set takes no part."""

    calibration_images: int = Field(64, ge=1, le=100_000, description="training images that int8's ranges come from")
    images: int | None = Field(None, ge=1, description="validation images that judge, evenly taken; null: all")
    timed_images: int = Field(16, ge=1, le=10_000, description="of these, evenly taken, that are timed")
    passes: int = Field(3, ge=1, le=100, description="over the timed images")
    tolerance: float = Field(
        1e-3, gt=0, lt=1, description="largest difference of a probability from torch's, of formats that don't round"
    )
    max_dice_loss: float = Field(0.01, ge=0, le=1, description="of int8, against torch on the same images")
    backend_dice_loss: float = Field(
        0.002, ge=0, le=1, description="largest loss of Dice on validation of what `segops predict --backend` takes"
    )
    backend_ap_loss: float = Field(
        0.005, ge=0, le=1, description="the same of the objects' AP, where they are told apart"
    )
