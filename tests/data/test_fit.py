"""Whether resizing shrinks images so much that it is said before a training."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from segops.data.fit import shrink_warning
from segops.params.input import InputParams


def warning(sizes_hw: list[tuple[int, int]], **given: Any) -> str | None:
    index = pd.DataFrame(sizes_hw, columns=["height", "width"]).assign(subset="train", depth=1)
    return shrink_warning(index, InputParams.model_validate(given), "net")


@pytest.mark.parametrize(
    ("size_hw", "given", "factor"),
    [
        ((256, 256), {"size": 128}, "2.0"),
        ((520, 696), {"size": 256}, "2.7"),
        ((520, 696), {"size": 256, "resize": "pad"}, "2.7"),
        ((128, 1024), {"size": [128, 128]}, "8.0"),  # a side alone
        ((255, 255), {"size": 128}, None),
        ((64, 64), {"size": 128}, None),
        ((2000, 2000), {"size": 256, "resize": "none"}, None),
    ],
)
def test_a_factor_of_two_is_said(size_hw: tuple[int, int], given: dict[str, Any], factor: str | None) -> None:
    said = warning([size_hw] * 3, **given)
    if factor is None:
        assert said is None
        return
    assert said is not None
    assert f"candidate net: input.resize {given.get('resize', 'stretch')} shrinks" in said
    assert f"by {factor}:" in said


def test_the_median_image_outside_test_counts() -> None:
    assert warning([(100, 100), (100, 100), (4000, 4000)], size=128) is None
    index = pd.DataFrame({"depth": 1, "height": [100, 900], "width": [100, 900], "subset": ["train", "test"]})
    assert shrink_warning(index, InputParams(size=(128, 128)), "net") is None
