"""Defines backends.json: what runs a model's network, how fast it was measured, and what it loses against torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract, Sha256
from segops.params.export import Backend
from segops.params.section import Value

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
"""What a backend needs beside torch, by its name up to the dash."""


class MeasuredBackend(Value):
    """A backend on validation images: the same images, threads and program for all, the network alone differs."""

    backend: Backend
    milliseconds: float = Field(ge=0, description="median of images, from pixels to probabilities of native size")
    dice_loss: float = Field(description="torch's mean Dice minus its")
    ap_loss: float | None = Field(description="torch's mean AP of objects minus its; null: no objects are told apart")
    allowed: bool = Field(description="within the largest losses")
    files: dict[str, Sha256] = Field(description="that it needs, beside backends.json, by name")


class SkippedBackend(Value):
    """A backend that couldn't be measured."""

    backend: Backend
    reason: str


class Backends(Contract):
    """backends.json: the backends of a model as they were measured when it was exported."""

    FILE: ClassVar[str] = "backends.json"
    FOLDER: ClassVar[str] = "backends"
    candidate: str
    weights_sha256: Sha256
    assignment_sha256: Sha256 = Field(description="of the split whose images judged")
    images: int = Field(ge=1, description="of validation")
    threads: int
    device: str = Field(description="on which torch ran")
    max_dice_loss: float
    max_ap_loss: float
    backends: list[MeasuredBackend] = Field(min_length=1, description="torch first")
    skipped: list[SkippedBackend]
