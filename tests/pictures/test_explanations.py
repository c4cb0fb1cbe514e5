"""A heat map is shown where it isn't flat and where training changed it (Adebayo et al. 2018)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segops.inference.predict import Predictor
from segops.pictures.explanations import Explainer, is_flat, rank_correlation, with_random_weights
from tests.support.small_models import small_program, trained_model

RAMP = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(small_program(), trained_model())


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(3)]


def test_a_network_with_random_weights_is_found_out(predictor: Predictor) -> None:
    explainer = Explainer(with_random_weights(predictor))
    for image in images():
        explainer.explain(image)
    assert explainer.correlation == pytest.approx(1)
    assert not explainer.says_something


def test_other_weights_make_other_maps(predictor: Predictor) -> None:
    before = {name: value.clone() for name, value in predictor.program.state_dict().items()}
    explainer = Explainer(predictor)
    shown = [explainer.explain(image) for image in images()]
    assert any(map_HW is not None for map_HW in shown)
    assert explainer.says_something
    torch.testing.assert_close(dict(predictor.program.state_dict()), before)


def test_a_network_that_looks_nowhere_has_no_map(predictor: Predictor) -> None:
    program = small_program()
    with torch.no_grad():
        program.network.output.weight.zero_()
    explainer = Explainer(Predictor(program, predictor.model))
    assert explainer.explain(images()[0]) is None
    assert (explainer.flat, explainer.correlation, explainer.says_something) == (1, None, False)


def test_random_weights_are_always_the_same_ones_and_leave_the_generator_alone(predictor: Predictor) -> None:
    state = torch.random.get_rng_state()
    first, second = (with_random_weights(predictor).program.state_dict() for _ in range(2))
    torch.testing.assert_close(dict(first), dict(second))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_maps_are_compared_by_the_ranks_of_their_pixels() -> None:
    assert rank_correlation(RAMP, RAMP**3) == pytest.approx(1)
    assert rank_correlation(RAMP, 1 - RAMP) == pytest.approx(-1)
    assert rank_correlation(RAMP, np.ones_like(RAMP)) == 0
    large = np.kron(RAMP, np.ones((10, 10), np.float32))
    assert rank_correlation(large, large) == pytest.approx(1)


def test_flat_is_a_map_without_a_high_place() -> None:
    spot = np.zeros((20, 20), np.float32)
    spot[3, 4] = 1
    assert is_flat(np.zeros((20, 20), np.float32))
    assert is_flat(0.95 + 0.05 * RAMP)
    assert not is_flat(RAMP)
    assert not is_flat(spot)
