"""Windows of volumes: what they cover, how they blend, and that an exported program does the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segops.inference.trained import build_program
from segops.inference.volume_program import VolumeProgram
from segops.inference.volume_windows import blend_at_once, blend_volume
from segops.params.candidate import CandidateParams

SIZES = [(5, 9, 8), (4, 8, 8), (9, 17, 20), (1, 3, 30)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("blend", [blend_volume, blend_at_once])
def test_what_every_window_gives_back_is_the_volume(size: tuple[int, ...], blend: object) -> None:
    volume = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, ...]] = []

    def same(windows: Tensor) -> Tensor:
        seen.append(tuple(windows.shape[2:]))
        return windows

    assert callable(blend)
    torch.testing.assert_close(blend(volume, (4, 8, 8), 0.5, same), volume)
    assert set(seen) == {(4, 8, 8)}


def test_windows_that_disagree_are_blended_smoothly() -> None:
    count = iter(range(100))

    def numbered(windows: Tensor) -> Tensor:
        return torch.stack([torch.full_like(window, next(count)) for window in windows])

    line = blend_volume(torch.zeros(1, 1, 4, 4, 6), (4, 4, 4), 0.5, numbered)[0, 0, 0, 0]
    # two windows along the last axis, 0..3 and 2..5; in voxels 2 and 3 they mix, symmetrically
    assert line.tolist()[:2] == [0, 0]
    assert line.tolist()[4:] == [1, 1]
    assert line[2] + line[3] == pytest.approx(1)
    assert 0 < line[2] < 0.5


def volume_params(**given: object) -> CandidateParams:
    sections = {
        "model": {"architecture": "unet_3d", "base_filters": 2, "depth": 2},
        "input": {"size": [8, 16, 16], "resize": "none", "channels": 1, "spacing_mm": [2, 1, 1]},
        "recipe": {"precision": "fp32"},
        **given,
    }
    return CandidateParams.model_validate(sections)


def volume_program(classes: int = 3, **given: object) -> VolumeProgram:
    torch.manual_seed(0)
    program = build_program(volume_params(**given), classes)
    assert isinstance(program, VolumeProgram)
    with torch.no_grad():
        program.network.output.weight.mul_(20)
    return program


def test_a_program_takes_volumes_of_any_size_and_gives_probabilities() -> None:
    program = volume_program()
    assert program.network.multiples == (2, 4, 4)
    with torch.inference_mode():
        for size in ((7, 15, 33), (1, 40, 3)):
            probability = program(torch.rand(1, 1, *size))
            assert probability.shape == (1, 3, *size)
            torch.testing.assert_close(probability.sum(dim=1), torch.ones(1, *size))


def test_flips_of_a_block_are_eight_views() -> None:
    program = volume_program(inference={"tta": "flips"})
    calls: list[tuple[int, ...]] = []
    program.network.register_forward_hook(lambda module, given, made: calls.append(tuple(made.shape)))
    image = torch.rand(1, 1, 8, 16, 16)
    with torch.inference_mode():
        flipped = program(image.flip(2, 4)).flip(2, 4)
        assert len(calls) == 8
        torch.testing.assert_close(flipped, program(image), atol=1e-5, rtol=0)


def test_the_exported_program_gives_the_same_probabilities_at_every_size() -> None:
    program = volume_program()
    auto = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        exported = torch.export.export(
            program, (torch.rand(2, 1, 11, 21, 19),), dynamic_shapes=({0: auto, 2: auto, 3: auto, 4: auto},)
        )
    with torch.inference_mode():
        for shape in ((1, 1, 8, 16, 16), (3, 1, 5, 40, 17)):
            image = torch.rand(shape)
            torch.testing.assert_close(exported.module()(image), program(image), atol=1e-5, rtol=0)
