"""What time an image takes, and where that was measured."""

from __future__ import annotations

from pathlib import Path

from segops.inference.cost import measure_cost
from segops.inference.predict import Predictor
from tests.support.small_models import brightness_params, brightness_program, save_candidate


def test_a_time_is_of_an_image_of_the_training_images_size(tmp_path: Path) -> None:
    save_candidate(tmp_path, brightness_program(), brightness_params(), train_height_px=(128, 128))
    cost = measure_cost(Predictor.load(tmp_path))
    assert cost.milliseconds_an_image > 0
    assert (cost.height_px, cost.width_px, cost.device) == (128, 64, "cpu")
    assert cost._replace(threads=2).where == "128x64 px on cpu, 2 threads"
