"""Candidates for volumes in other formats: slices and patches, judged by volume on its own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto
from onnx import load as onnx_load

from segops.commands.export import export
from segops.contracts.usage import Export
from segops.export.runtimes import with_onnx_runtime, with_torch
from segops.inference.trained import build_program, load_program
from segops.params.candidate import CandidateParams
from segops.params.export import ExportParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from tests.support.small_models import save_candidate
from tests.support.tiny_volumes import prepared_volumes
from tests.support.volume_runs import SLICES, VOLUMES

CASES = {"slices": (SLICES, (1, 24, 24), (2, 40, 17)), "volumes": (VOLUMES, (1, 8, 12, 12), (2, 5, 30, 17))}


def saved(folder: Path, entry: dict[str, Any], prepared: Any) -> None:
    """A candidate with random weights whose probabilities spread over most of 0..1."""
    torch.manual_seed(0)
    params = CandidateParams.model_validate(entry)
    program = build_program(params, 3)
    with torch.no_grad():
        program.network.output.weight.mul_(20)
    of_volumes = {"dimensions": 3, "train_depth_px": (10, 10), "train_height_px": (24, 24), "train_width_px": (24, 24)}
    scale = {"full_scale": {"int16": 1.0, "float32": 1.0}, "rule": "argmax", "threshold": None}
    classes = {"classes": prepared.classes, "class_colours": prepared.class_colours}
    save_candidate(folder, program, params, prepared, **of_volumes, **scale, **classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_onnx_file_is_the_program_at_every_size_and_is_judged_by_volume(name: str, tmp_path: Path) -> None:
    entry, *shapes = CASES[name]
    data = prepared_volumes(tmp_path)
    saved(tmp_path / "model", entry, data.meta)
    made = export(
        str(tmp_path / "model"),
        ["onnx", "int8"],
        ExportParams(calibration_images=3, passes=1, max_dice_loss=1.0),
        RuntimeParams(threads=1, device="cpu"),
        TrackingParams(),
        prepared=tmp_path / "prepared",
        out=tmp_path / "out",
    )
    assert Export.load(tmp_path / "out") == made
    torch_row, onnx, int8 = made.formats
    assert onnx.difference < 1e-5
    assert onnx.dice == pytest.approx(torch_row.dice, abs=1e-6)
    assert 0 < int8.difference < 0.2
    graph = onnx_load(tmp_path / "out" / "model.int8.onnx").graph
    kernels = [weight for weight in graph.initializer if weight.data_type == TensorProto.INT8 and len(weight.dims) > 1]
    assert {len(kernel.dims) for kernel in kernels} == {len(shapes[0]) + 1}
    program, _ = load_program(tmp_path / "model")
    run, expected = with_onnx_runtime(tmp_path / "out" / "model.onnx", 1), with_torch(program)
    for batch, *sides in shapes:
        noise = np.random.default_rng(0).random((batch, 1, *sides), dtype=np.float32) * 700
        np.testing.assert_allclose(run(noise), expected(noise), atol=1e-5)
