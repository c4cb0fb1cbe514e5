"""Test-time augmentation: which views there are, and that each answer is turned back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segops.inference.tta import mean_over_views, views
from segops.params.inference import TestTimeAugmentation
from tests.support.small_models import small_program


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def down_right(image_BChw: Tensor) -> Tensor:
    """A network that isn't the same for any view: a sum that runs down, then weights that grow to the right."""
    return image_BChw.cumsum(dim=2) * torch.arange(1.0, 1 + image_BChw.shape[3])


def test_there_are_one_four_or_eight_views() -> None:
    kinds: tuple[TestTimeAugmentation, ...] = ("none", "flips", "d4")
    assert [len(set(views(kind))) for kind in kinds] == [1, 4, 8]
    assert all(views(kind)[0] == (False, False, False) for kind in kinds)


def test_none_is_the_networks_answer_to_the_bit() -> None:
    image = noise(2, 3, 6, 5)
    assert torch.equal(mean_over_views(image, down_right, "none"), down_right(image))


def test_flips_are_the_mean_of_four_answers_flipped_back() -> None:
    image = noise(1, 1, 4, 7)
    expected = sum(down_right(image.flip(axes)).flip(axes) for axes in ([], [2], [3], [2, 3]))
    torch.testing.assert_close(mean_over_views(image, down_right, "flips"), expected / 4)


def test_d4_is_the_mean_over_four_turns_of_the_image_and_of_its_mirror_image() -> None:
    image = noise(1, 2, 4, 7)
    expected = torch.zeros_like(image)
    for turns in range(4):
        for mirror in ([], [3]):
            seen = torch.rot90(image.flip(mirror), turns, (2, 3))
            expected += torch.rot90(down_right(seen), -turns, (2, 3)).flip(mirror)
    torch.testing.assert_close(mean_over_views(image, down_right, "d4"), expected / 8)


@pytest.mark.parametrize("resize", ["stretch", "none"])
def test_a_program_with_d4_gives_a_turned_image_the_turned_answer(resize: str) -> None:
    program, image = small_program(resize=resize), noise(1, 3, 64, 64)
    with torch.inference_mode():
        plain = program(image)
        program.tta = "d4"
        found, turned = program(image), program(torch.rot90(image, 1, (2, 3)))
    torch.testing.assert_close(torch.rot90(found, 1, (2, 3)), turned, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert found.min() >= 0
    assert found.max() <= 1
