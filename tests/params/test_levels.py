"""Where a network for volumes halves an axis and where its kernels span it, by hand from nnU-Net's rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segops.params.candidate import CandidateParams
from segops.params.levels import plan_levels
from segops.params.project import Params


def test_equal_voxels_are_halved_alike() -> None:
    assert [level.stride for level in plan_levels((32, 32, 32), None, 4)] == [(1, 1, 1), *[(2, 2, 2)] * 3]
    assert {level.kernel for level in plan_levels((32, 32, 32), None, 4)} == {(3, 3, 3)}


def test_thick_slices_are_halved_and_spanned_once_pixels_are_nearly_as_large() -> None:
    # 5 mm apart, pixels of 1 mm: 5 / 1, 5 / 2, then 5 / 4 < 2.
    levels = plan_levels((16, 128, 128), (5.0, 1.0, 1.0), 5)
    assert [level.stride for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert [level.kernel for level in levels] == [(1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 3]


def test_an_axis_keeps_four_voxels() -> None:
    strides = [level.stride for level in plan_levels((8, 64, 64), None, 5)]
    assert strides == [(1, 1, 1), (2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2)]


@given(st.tuples(*[st.integers(4, 256)] * 3), st.tuples(*[st.floats(0.1, 10)] * 3), st.integers(2, 6))
def test_a_plan_never_undercuts_four_voxels_and_ends_with_full_kernels(
    size: tuple[int, ...], spacing_mm: tuple[float, ...], count: int
) -> None:
    try:
        levels = plan_levels(size, spacing_mm, count)
    except ValueError:
        return
    assert len(levels) == count
    assert levels[-1].kernel == (3, 3, 3)
    for axis, side in enumerate(size):
        for level in levels:
            side = -(-side // level.stride[axis])
        assert side >= min(4, size[axis])
    assert all(max(level.stride) == 2 for level in levels[1:])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": {"architecture": "unet_3d"}, "input": {"size": 64}}, "unet_3d is a network for volumes"),
        (
            {"model": {"architecture": "unet"}, "input": {"size": [8, 64, 64], "resize": "none"}},
            "is a network for images",
        ),
        ({"model": {"architecture": "vnet"}, "input": {"size": [8, 64, 64]}}, "set resize: none"),
        (
            {"model": {"architecture": "vnet"}, "input": {"size": [8, 8, 8], "resize": "none"}},
            "those of 8x8x8 can be halved 1 times",
        ),
        (
            {
                "model": {"architecture": "vnet"},
                "input": {"size": [64, 64, 64], "resize": "none", "slices": {"axis": "axial"}},
            },
            "set slices: null",
        ),
        ({"model": {"architecture": "unet"}, "input": {"size": 64, "spacing_mm": [1, 1, 1]}}, "set spacing_mm: null"),
        (
            {"model": {"architecture": "unet_3d"}, "input": {"size": [32] * 3, "resize": "none", "clahe": {}}},
            "set clahe: null",
        ),
        (
            {
                "model": {"architecture": "unet_3d"},
                "input": {"size": [32] * 3, "resize": "none"},
                "recipe": {"loss": {"name": "boundary_bce"}},
            },
            "boundary_bce is for images",
        ),
        (
            {
                "model": {"architecture": "unet_3d"},
                "input": {"size": [32] * 3, "resize": "none"},
                "inference": {"tta": "d4"},
            },
            "inference.tta d4 is for images",
        ),
        (
            {
                "model": {"architecture": "unet_3d"},
                "input": {"size": [32] * 3, "resize": "none"},
                "inference": {"window": 64},
            },
            "inference.window is for networks that see images at native resolution",
        ),
        (
            {"model": {"architecture": "unet"}, "input": {"size": 64}, "inference": {"window": 64}},
            "set inference.window: null",
        ),
        (
            {"model": {"architecture": "intensity"}, "input": {"resize": "none"}, "inference": {"window": 512}},
            "set inference.window: null",
        ),
        (
            {
                "model": {"architecture": "unet"},
                "input": {"size": 64, "resize": "none"},
                "inference": {"window": [128, 48]},
            },
            r"inference.window \[128, 48\] is smaller than input.size",
        ),
        (
            {
                "model": {"architecture": "unet"},
                "input": {"size": 64, "resize": "none"},
                "inference": {"window": 9000},
            },
            "a side has at most 8192 pixels",
        ),
        (
            {
                "model": {"architecture": "unet"},
                "input": {"size": 32, "slices": {"axis": "axial"}},
                "recipe": {"augment": {"stain": 0.1}},
            },
            "recipe.augment.stain is of stained tissue",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CandidateParams.model_validate(given)


SPACED = {"size": [16, 16, 16], "resize": "none", "spacing_mm": [1, 1, 1]}
UNET_3D = {"architecture": "unet_3d", "depth": 1}


@pytest.mark.parametrize(
    ("member", "says"),
    [
        ({"model": UNET_3D, "input": {**SPACED, "spacing_mm": [2, 1, 1]}}, "own input.spacing_mm"),
        ({"model": UNET_3D, "input": {**SPACED, "volume": {"zscore_over": "volume"}}}, "own input.volume"),
        ({"model": {"architecture": "unet"}, "input": {"size": 32}}, "all for volumes"),
    ],
)
def test_members_see_a_volume_alike(member: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CandidateParams.model_validate({"model": UNET_3D, "input": SPACED, "members": [member]})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"candidates": {"net": {"model": {"architecture": "unet"}}}}, "ingest.dimensions is 3; set slices"),
        ({"split": {"protocol": "published"}}, "of volumes take grouped"),
        ({"ingest": {"source": "any", "dimensions": 2}}, "ingest.dimensions is 2"),
        ({"batch": {"bits": 12}}, "batch.bits is of 16-bit pictures"),
        *(
            ({"ingest": {"source": "any", "dimensions": 3, name: value}}, f"{name}: {value} is for pictures")
            for name, value in (
                ("planes", "split"),
                ("orientation", "turn"),
                ("level", 1),
                ("mask_channel", 0),
                ("uint16_bits", 12),
            )
        ),
    ],
)
def test_candidates_and_dataset_have_the_same_dimensions(given: dict[str, object], says: str) -> None:
    params = {"ingest": {"source": "any", "dimensions": 3}, "candidates": {"net": {"model": UNET_3D, "input": SPACED}}}
    Params.model_validate(params)
    with pytest.raises(ValidationError, match=says):
        Params.model_validate({**params, **given})
