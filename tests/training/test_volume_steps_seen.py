"""Steps on whole volumes come before slices and resampling, the same in training and in prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segops.data.arrays import PreparedData
from segops.data.fit import check_images
from segops.data.volume_steps import after_steps
from segops.errors import UserError
from segops.inference.volumes import volume_map
from segops.params.input import InputParams
from segops.training.batches.seen import as_seen
from tests.support.tiny_prepared import write_prepared
from tests.support.tiny_volumes import prepared_volumes

STEPS: dict[str, Any] = {"zscore_over": "otsu", "bias_field": {"shrink": 2, "levels": 1, "iterations": 3}}


def input_params(**given: Any) -> InputParams:
    return InputParams.model_validate({"channels": 1, "volume": STEPS, **given})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_volumes(tmp_path_factory.mktemp("seen"))


def test_volumes_are_derived_once_and_slices_are_cut_out_of_them(data: PreparedData, tmp_path: Path) -> None:
    params = input_params(slices={"axis": "axial"})
    seen = as_seen(data, params, tmp_path)
    derived = [path for path in tmp_path.iterdir() if path.is_dir()]
    row = data.rows("train")[0]
    assert params.volume is not None
    expected_DHWC = after_steps(data.image(row), data.spacing_mm(row), params.volume, "a")
    first = next(index for index in seen.rows("train") if seen.example(index) == row)
    np.testing.assert_array_equal(seen.image(first), expected_DHWC[0])
    before = {path: path.stat().st_mtime_ns for path in derived}
    as_seen(data, params, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in derived} == before


@pytest.mark.parametrize("given", [{"slices": {"axis": "coronal"}}, {"size": [8, 8, 8], "resize": "none"}])
def test_prediction_takes_the_same_steps(data: PreparedData, given: dict[str, Any]) -> None:
    params = input_params(**given)
    assert params.volume is not None
    image_DHWC, spacing_mm = data.image(0), data.spacing_mm(0)
    seen_KDHW = volume_map(
        lambda image: image, image_DHWC, spacing_mm, params, full_scale=1, device=torch.device("cpu"), channels=1
    )
    expected_DHWC = after_steps(image_DHWC, spacing_mm, params.volume, "a")
    np.testing.assert_array_equal(seen_KDHW[0], expected_DHWC[..., 0])


def test_steps_on_volumes_are_refused_on_pictures(tmp_path: Path) -> None:
    index = PreparedData.open(write_prepared(tmp_path / "prepared")).index
    with pytest.raises(UserError, match=r"candidates\.net\.input\.volume is for volumes, but the prepared data are"):
        check_images(index, InputParams.model_validate({"volume": STEPS}), "net")
