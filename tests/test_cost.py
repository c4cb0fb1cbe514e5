"""What an image costs: arithmetic by hand, and a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.inference.cost import measure_cost
from segops.inference.predict import Predictor
from segops.params.inference import InferenceParams
from tests.small_models import brightness_params, brightness_program, save_candidate

# Multiplications with their additions of brightness_program: weights times the pixels that they are applied to.
FULL, HALF = 64 * 64, 32 * 32
ENCODER = (3 * 9 + 9) * FULL
BOTTLENECK = (2 * 9 + 2 * 2 * 9) * HALF
DECODER = 2 * 4 * HALF + (2 * 9 + 9) * FULL
OUTPUT = FULL
ONE_PASS_GFLOPS = 2 * (ENCODER + BOTTLENECK + DECODER + OUTPUT) / 1e9


def test_an_image_costs_the_networks_arithmetic(tmp_path: Path) -> None:
    save_candidate(tmp_path, brightness_program(), brightness_params())
    cost = measure_cost(Predictor.load(tmp_path))
    assert cost.gflops == pytest.approx(ONE_PASS_GFLOPS)
    assert cost.milliseconds_an_image > 0
    assert (cost.height_px, cost.width_px, cost.device) == (64, 64, "cpu")
    assert cost._replace(threads=2).where == "64x64 px on cpu, 2 threads"


def test_views_and_windows_cost_more(tmp_path: Path) -> None:
    flips = brightness_params().model_copy(update={"inference": InferenceParams(tta="flips")})
    save_candidate(tmp_path / "flips", brightness_program(), flips)
    assert measure_cost(Predictor.load(tmp_path / "flips")).gflops == pytest.approx(4 * ONE_PASS_GFLOPS)
    given: dict[str, Any] = {"resize": "none", "window_overlap": 0.0}
    save_candidate(
        tmp_path / "windows", brightness_program(**given), brightness_params(**given), train_height_px=(128, 128)
    )
    cost = measure_cost(Predictor.load(tmp_path / "windows"))
    assert (cost.height_px, cost.width_px) == (128, 64)
    assert cost.gflops == pytest.approx(2 * ONE_PASS_GFLOPS)
