"""A mask is the same wherever its program runs: `predict`, MLflow's pyfunc, ONNX Runtime and OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segops.contracts.model import WEIGHTS_FILE, MemberModel
from segops.export.onnx_file import write_onnx
from segops.export.openvino_file import write_openvino
from segops.export.runtimes import lacking, with_onnx_runtime, with_openvino
from segops.files import sha256_file
from segops.inference.predict import Predictor
from segops.inference.preprocess import unit_image
from segops.inference.trained import build_program, member_prefix
from segops.params.candidate import CandidateParams
from segops.progress import say
from segops.tracking.model import save_model
from tests.support.small_models import trained_model

# Of every relation to the training sizes (at most 100x120, windows 60x70): smaller, within, one side beyond, both.
SIZES_HW = [(33, 33), (64, 64), (97, 40), (200, 240), (201, 240), (300, 277), (512, 640), (40, 900), (1024, 1024),
            (2000, 1500)]  # fmt: skip
ROUNDING = 2e-6  # of float32 sums in another order
INPUTS: dict[str, dict[str, Any]] = {
    "stretch": {"resize": "stretch", "size": [64, 80]},
    "pad": {"resize": "pad", "size": [64, 80], "normalize": "zscore"},
    "windows": {"resize": "none", "size": [64, 80], "window_overlap": 0.5},
    "enhanced": {"resize": "none", "size": 64, "clahe": {}, "clip": {"percentiles": [1, 99]}},
}


def save(folder: Path, kind: str) -> None:
    """A candidate with weights of seed 0, whose masks are fine-grained; `members` has two of other input sizes."""
    model = {"architecture": "unet", "base_filters": 2, "depth": 2}
    other = {"model": model, "input": {"size": 96, "resize": "pad"}}
    params = CandidateParams.model_validate(
        {
            "model": model,
            "input": INPUTS.get(kind, INPUTS["stretch"]),
            "members": [other] if kind == "members" else [],
            "objects": {"target": "distance"} if kind == "objects" else None,
            "inference": {"tta": "flips" if kind == "pad" else "none"},
        }
    )
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}
    for number, network in enumerate(params.networks):
        program = build_program(network, 2)
        with torch.no_grad():
            program.network.output.weight.mul_(20)
        weights |= {member_prefix(number) + name: value for name, value in program.network.state_dict().items()}
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS_FILE)
    trained_model(
        params=params.model_dump(mode="json"),
        weights_sha256=sha256_file(folder / WEIGHTS_FILE),
        members=[MemberModel(best_epoch=1, epochs=1) for _ in params.members],
        train_height_px=(60, 100),
        train_width_px=(70, 120),
    ).save(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*INPUTS, "members", "objects"])
def test_every_runtime_gives_the_masks_of_predict_at_every_size(kind: str, tmp_path: Path) -> None:
    from mlflow import pyfunc

    save(tmp_path / "model", kind)
    predictor = Predictor.load(tmp_path / "model")
    save_model(tmp_path / "model", tmp_path / "registered")
    write_onnx(predictor.program, tmp_path / "model.onnx")
    runs = {
        "pyfunc": pyfunc.load_model(str(tmp_path / "registered")).predict,
        "onnx": with_onnx_runtime(tmp_path / "model.onnx", 1),
    }
    if lacking("openvino") is None:
        write_openvino(tmp_path / "model.onnx", tmp_path / "model.xml")
        runs["openvino"] = with_openvino(tmp_path / "model.xml", 1)
    worst, differing, pixels = 0.0, 0, 0
    for height, width in SIZES_HW:
        image_HWC = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        (probability_HW,), depth_HW = predictor.maps(image_HWC)
        cut = float(np.median(probability_HW))  # the threshold at which most could differ
        for name, run in runs.items():
            found_HW, *found_depth = run(np.ascontiguousarray(unit_image(image_HWC, 255, 3).numpy()))[0]
            assert len(found_depth) == (depth_HW is not None)
            if depth_HW is not None:
                worst = max(worst, float(np.abs(found_depth[0] - depth_HW).max()))
            worst = max(worst, float(np.abs(found_HW - probability_HW).max()))
            differs_HW = (found_HW > cut) != (probability_HW > cut)
            assert (np.abs(probability_HW[differs_HW] - cut) < ROUNDING).all(), f"{name} at {height}x{width}"
            differing, pixels = differing + int(differs_HW.sum()), pixels + differs_HW.size
    say(f"{kind}: {differing} of {pixels} pixels differ, probabilities by {worst:.1e} at most")
    # CLAHE counts pixels in bins, where a value on the border of two may fall to either.
    assert worst < (1e-3 if kind == "enhanced" else ROUNDING)
    assert differing <= 20e-6 * pixels
