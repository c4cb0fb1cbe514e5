"""GFLOPs of a network, and of a candidate with all its networks, folds, windows and views."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from segops.errors import UserError
from segops.inference.flops import image_gflops
from segops.models.flops import gflops
from tests.support.small_models import candidate_params, trained_model


def test_a_convolution_has_two_operations_a_weight_and_pixel() -> None:
    network: Any = nn.Conv2d(3, 8, 3, padding=1, device="meta")
    network.multiples = (16, 16)
    # 8 x 3 x 3 x 3 weights on 32 x 48 pixels: the sides are enlarged to the multiple.
    assert gflops(network, 3, (30, 48)) == 2 * 8 * 27 * 32 * 48 / 1e9


def _gflops(size: int = 64, tta: str = "none", given: dict[str, Any] | None = None, **changed: Any) -> float:
    params = candidate_params(size, **(given or {})).model_dump(mode="json")
    params["inference"] |= {"tta": tta, "window": changed.pop("window", None)}
    params |= changed.pop("params", {})
    counted = image_gflops(trained_model(params=params, **changed))
    assert counted is not None
    return counted


def test_a_candidate_costs_all_its_networks_folds_windows_and_views() -> None:
    one = _gflops()
    assert one > 0
    assert _gflops(128) == pytest.approx(4 * one, abs=2e-6)
    assert _gflops(tta="flips") == pytest.approx(4 * one, abs=3e-6)
    assert _gflops(tta="d4") == pytest.approx(8 * one, abs=5e-6)
    folds = [{"fold": fold, "best_epoch": 1, "epochs": 1} for fold in range(3)]
    assert _gflops(folds=folds, ensemble=True) == pytest.approx(3 * one, abs=2e-6)
    assert _gflops(folds=folds) == one  # beside the candidate's own network
    # A median image of 128 x 64 pixels is two windows of 64 x 64 without overlap, and one if it is resized.
    native = {"resize": "none", "window_overlap": 0.0}
    assert _gflops(given=native, train_height_px=(128, 128)) == pytest.approx(2 * one, abs=2e-6)
    assert _gflops(train_height_px=(128, 128)) == one
    assert _gflops(given=native, train_height_px=(32, 64)) == one  # a window that is half black
    assert _gflops(given=native, train_height_px=(128, 128), window=128) == pytest.approx(4 * one, abs=2e-6)
    own = candidate_params().model_dump(mode="json")
    member = {name: own[name] for name in ("model", "input")} | {"recipe": own["recipe"] | {"seed": 9}}
    assert _gflops(params={"members": [member]}) == pytest.approx(2 * one, abs=2e-6)


def test_params_of_another_version_are_one_line() -> None:
    with pytest.raises(UserError, match=r"model.json of 'small': params: .*; train it again"):
        image_gflops(trained_model(params={"model": {"architecture": "unknown"}}))
