"""Steps on whole volumes: N4 takes a drawn bias field off, z-scores are those of the voxels that count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segops.data.volume_steps import after_steps
from segops.errors import UserError
from segops.params.volume_steps import VolumeStepsParams


def steps(**given: Any) -> VolumeStepsParams:
    return VolumeStepsParams.model_validate(given)


def variation(values: np.ndarray) -> float:
    return float(values.std() / values.mean())


def test_n4_takes_a_field_off_a_body_of_one_brightness_and_gives_equal_bytes_twice() -> None:
    rng = np.random.default_rng(0)
    down, along, across = np.meshgrid(*(np.linspace(-1, 1, side) for side in (16, 32, 32)), indexing="ij")
    body = down**2 + along**2 + across**2 < 0.8
    clean_DHW = np.where(body, 200.0, 5.0) + rng.normal(0, 2, body.shape)
    image_DHWC = (clean_DHW * np.exp(0.4 * across - 0.3 * along)).clip(0)[..., None]
    given = steps(bias_field={"shrink": 2, "levels": 2, "iterations": 20})
    first, second = (after_steps(image_DHWC, (3.0, 1.0, 1.0), given, "a")[..., 0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert variation(image_DHWC[..., 0][body]) > 0.2
    assert variation(first[body]) < 0.06


def test_n4_refuses_hounsfield_units_in_a_line() -> None:
    image_DHWC = np.full((4, 8, 8, 1), -1000, np.int16)
    with pytest.raises(UserError, match=r"^case: values below 0, as of CT.*input\.volume\.bias_field: null"):
        after_steps(image_DHWC, None, steps(bias_field={}), "case")


def test_n4_refuses_a_single_plane_in_a_line() -> None:
    plane_DHWC = np.arange(40, dtype=np.int16).reshape(1, 5, 8, 1)
    with pytest.raises(UserError, match=r"^a: 1x5x8 voxels, but N4 needs two along each axis"):
        after_steps(plane_DHWC, None, steps(bias_field={}), "a")
    after_steps(np.concatenate([plane_DHWC, plane_DHWC]), None, steps(bias_field={}), "a")


@pytest.mark.parametrize("over", ["volume", "nonzero", "otsu"])
def test_the_voxels_that_count_get_zero_mean_and_unit_deviation(over: str) -> None:
    rng = np.random.default_rng(0)
    image_DHWC = np.zeros((6, 8, 9, 2), np.float32)
    image_DHWC[2:5, 2:6, 2:7] = rng.normal(500, 30, (3, 4, 5, 2))
    standard_DHWC = after_steps(image_DHWC, None, steps(zscore_over=over), "a")
    inside = np.ones((6, 8, 9), bool) if over == "volume" else image_DHWC[..., 0] > 0
    for channel in range(2):
        assert standard_DHWC[..., channel][inside].mean() == pytest.approx(0, abs=1e-4)
        assert standard_DHWC[..., channel][inside].std() == pytest.approx(1, abs=1e-4)


def test_a_constant_volume_becomes_zero_and_no_steps_change_nothing() -> None:
    flat = np.full((3, 4, 5, 1), 7, np.int16)
    for over in ("volume", "nonzero", "otsu"):
        np.testing.assert_array_equal(after_steps(flat, None, steps(zscore_over=over), "a"), np.zeros_like(flat))
    np.testing.assert_array_equal(after_steps(flat, None, steps(bias_field={}), "a"), flat)
    np.testing.assert_array_equal(after_steps(flat, None, steps(), "a"), flat)


def test_values_in_small_units_are_not_taken_for_a_constant() -> None:
    diffusion_DHWC = np.linspace(0.5e-9, 2.5e-9, 60, dtype=np.float32).reshape(3, 4, 5, 1)  # m^2/s
    standard_DHWC = after_steps(diffusion_DHWC, None, steps(zscore_over="volume"), "a")
    assert (standard_DHWC.mean(), standard_DHWC.std()) == pytest.approx((0, 1), abs=1e-4)
