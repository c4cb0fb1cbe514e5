"""Tiny trained candidates for tests: a real network with random or chosen weights, in a folder as `train` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from segops.contracts.model import WEIGHTS_FILE, InputStatistics, TrainedModel
from segops.contracts.prepared import Prepared
from segops.files import sha256_file, sha256_lines
from segops.inference.program import SegmentationProgram
from segops.inference.trained import build_program
from segops.models.catalogue import count_parameters
from segops.params.candidate import CandidateParams

SOME_SHA256 = sha256_lines(["some"])
FP32 = {"precision": "fp32"}  # on every processor


def candidate_params(size: Any = 64, outputs: str = "softmax", **given: Any) -> CandidateParams:
    """A U-Net of two levels with two filters; `given` is of its input."""
    model = {"architecture": "unet", "base_filters": 2, "depth": 2}
    sections = {"model": model, "outputs": outputs, "input": {"size": size, **given}, "recipe": FP32}
    return CandidateParams.model_validate(sections)


def small_program(size: Any = 64, classes: int = 2, outputs: str = "softmax", **given: Any) -> SegmentationProgram:
    """A program with weights of seed 0, whose probabilities spread over most of 0..1."""
    torch.manual_seed(0)
    statistics = InputStatistics(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    program = build_program(candidate_params(size, outputs, **given), classes, statistics)
    with torch.no_grad():
        program.network.output.weight.mul_(20)
    return program


def brightness_params(size: Any = 64, **given: Any) -> CandidateParams:
    """A U-Net with one filter and one pooling."""
    model = {"architecture": "unet", "base_filters": 1, "depth": 1}
    return CandidateParams.model_validate({"model": model, "input": {"size": size, **given}, "recipe": FP32})


def brightness_program(size: Any = 64, **given: Any) -> SegmentationProgram:
    """A program that needs no training: foreground is what is brighter than a half, logit 20 (grey - 0.5).

    Every weight is 0 but those that carry the image along the skip.
    """
    program = build_program(brightness_params(size, **given), 2)
    weights = {name: torch.zeros_like(value) for name, value in program.network.state_dict().items()}
    weights["encoder.0.0.weight"][:, :, 1, 1] = 1 / program.channels
    weights["encoder.0.2.weight"][:, :, 1, 1] = 1
    weights["decoder.0.convs.0.weight"][:, 1, 1, 1] = 1  # after the upsampled channel
    weights["decoder.0.convs.2.weight"][:, :, 1, 1] = 1
    weights["output.weight"].fill_(20)
    weights["output.bias"].fill_(-10)
    program.network.load_state_dict(weights)
    return program


def trained_model(prepared: Prepared | None = None, **changed: Any) -> TrainedModel:
    """model.json of `small_program`, of `prepared` or of made-up data."""
    hashes = ("manifest_sha256", "assignment_sha256", "test_sha256", "source_sha256")
    values: dict[str, Any] = {
        "candidate": "small",
        "key": SOME_SHA256,
        "params": candidate_params().model_dump(mode="json"),
        "threads": 2,
        "classes": prepared.classes if prepared else ["background", "nucleus"],
        "class_colours": prepared.class_colours if prepared else ["#000000", "#e69f00"],
        "rule": "best_dice" if prepared is None or len(prepared.classes) == 2 else "argmax",
        "threshold": 0.5 if prepared is None or len(prepared.classes) == 2 else None,
        "cleaning": {},
        "val_dice": 0.5,
        "best_epoch": 1,
        "epochs": 1,
        "parameters": 1,
        "weights_sha256": SOME_SHA256,
        "dataset": prepared.dataset if prepared else "made-up",
        "source": prepared.source if prepared else "made-up",
        "licence": "CC0-1.0",
        "protocol": prepared.protocol if prepared else "grouped",
        "full_scale": {"uint8": 255.0, "uint16": 65535.0},
        "train_images": 20,
        "train_groups": 10,
        "train_modalities": {"fluorescence": 16, "histology": 4},
        "train_height_px": (64, 100),
        "train_width_px": (64, 100),
        **{name: getattr(prepared, name) if prepared else SOME_SHA256 for name in hashes},
        **changed,
    }
    return TrainedModel.model_validate(values)


def save_candidate(
    folder: Path,
    program: SegmentationProgram,
    params: CandidateParams,
    prepared: Prepared | None = None,
    **changed: Any,
) -> TrainedModel:
    """Write weights.safetensors and model.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in program.network.state_dict().items()}, folder / WEIGHTS_FILE)
    model = trained_model(
        prepared,
        params=params.model_dump(mode="json"),
        weights_sha256=sha256_file(folder / WEIGHTS_FILE),
        parameters=count_parameters(program.network),
        **changed,
    )
    model.save(folder)
    return model
