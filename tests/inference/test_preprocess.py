"""Resizing, padding, normalization and the way back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from segops.errors import UserError
from segops.inference.preprocess import (
    Resize,
    match_channels,
    normalize,
    pad_to_multiple,
    resize_image,
    resize_mask,
    restore,
)

sides = st.integers(1, 90)
hows = st.sampled_from(["stretch", "pad"])


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (33, 200), (1, 1), (70, 111)])
def test_stretch_is_torchs_antialiased_bilinear_interpolation(size: tuple[int, int]) -> None:
    image = noise(2, 3, 70, 111).double()
    expected = interpolate(image, size=size, mode="bilinear", antialias=True)
    torch.testing.assert_close(resize_image(image, size, "stretch"), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (128, 96), (33, 200), (70, 111)])
def test_stretched_masks_are_torchs_nearest_exact(size: tuple[int, int]) -> None:
    mask = (noise(2, 70, 111) * 4).to(torch.uint8)
    expected = interpolate(mask[:, None], size=size, mode="nearest-exact")[:, 0]
    assert torch.equal(resize_mask(mask, size, "stretch"), expected)


def test_pad_scales_to_fit_and_centres_between_black_borders() -> None:
    image = torch.ones(1, 1, 20, 40)
    resized = resize_image(image, (32, 32), "pad")
    # 20x40 fits as 16x32: 8 black rows above and below.
    expected = torch.zeros(1, 1, 32, 32)
    expected[:, :, 8:24] = 1
    torch.testing.assert_close(resized, expected)
    assert torch.equal(resize_mask(image[0].to(torch.uint8), (32, 32), "pad"), expected[0].to(torch.uint8))


def test_pad_of_the_same_aspect_ratio_is_stretch() -> None:
    image = noise(1, 3, 40, 60)
    assert torch.equal(resize_image(image, (64, 96), "pad"), resize_image(image, (64, 96), "stretch"))


def test_restore_puts_an_object_back_where_it_was() -> None:
    native = torch.zeros(1, 1, 30, 90)
    native[:, :, 9:18, 30:60] = 1
    for how in ("stretch", "pad"):
        back = restore(resize_image(native, (64, 64), how), (30, 90), how) > 0.5
        assert torch.equal(back.float(), native), how


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, size=st.tuples(sides, sides), how=hows)
def test_constants_stay_constant_there_and_back(height: int, width: int, size: tuple[int, int], how: Resize) -> None:
    image = torch.full((1, 1, height, width), 0.7)
    resized = resize_image(image, size, how)
    assert resized.shape[2:] == size
    assert resized.max() == pytest.approx(0.7)
    assert ((resized - 0.7).abs().lt(1e-5) | resized.eq(0)).all()
    torch.testing.assert_close(restore(resized, (height, width), how), image)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, size=st.tuples(sides, sides), how=hows)
def test_image_and_mask_share_one_geometry(height: int, width: int, size: tuple[int, int], how: Resize) -> None:
    inside = resize_image(torch.ones(1, 1, height, width), size, how)[0] > 0.5
    assert torch.equal(inside, resize_mask(torch.ones(1, height, width, dtype=torch.uint8), size, how) > 0)


def test_resizing_to_the_own_size_changes_no_bit() -> None:
    image = noise(1, 3, 37, 52)
    for how in ("stretch", "pad"):
        assert torch.equal(resize_image(image, (37, 52), how), image)
        assert torch.equal(restore(image, (37, 52), how), image)


def test_pad_to_multiple_adds_black_below_and_right() -> None:
    padded = pad_to_multiple(torch.ones(1, 2, 5, 8), (4, 4))
    assert padded.shape == (1, 2, 8, 8)
    assert padded[:, :, :5].eq(1).all()
    assert padded[:, :, 5:].eq(0).all()
    assert pad_to_multiple(padded, (8, 8)).shape == padded.shape


def test_channels_are_repeated_or_weighed() -> None:
    grey = noise(1, 1, 4, 4)
    assert torch.equal(match_channels(grey, 3), torch.cat([grey] * 3, dim=1))
    assert match_channels(grey, 1) is grey
    colour = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    # 0.299 + 0.587 / 2 + 0.114 / 4
    assert match_channels(colour, 1).item() == pytest.approx(0.621)
    for has, wanted in ((2, 3), (1, 4), (4, 3)):
        with pytest.raises(UserError, match=f"{has} channels, but the model takes {wanted}"):
            match_channels(torch.zeros(1, has, 4, 4), wanted)


def test_normalizations() -> None:
    image = torch.tensor([0.0, 0.5, 0.5, 1.0]).view(1, 1, 2, 2)
    assert torch.equal(normalize(image, "unit"), image)
    assert normalize(image, "symmetric").flatten().tolist() == [-1, 0, 0, 1]
    # torchvision's constants by hand: (0.6 - 0.485) / 0.229, ...; for grey (0.6 - 0.449) / 0.226
    colour = normalize(torch.full((2, 3, 1, 1), 0.6), "imagenet")
    assert colour[1].flatten().tolist() == pytest.approx([0.502183, 0.642857, 0.862222], rel=1e-5)
    assert normalize(torch.full((1, 1, 1, 1), 0.6), "imagenet").item() == pytest.approx(0.151 / 0.226)
    # mean 1/2, variance 1/8
    torch.testing.assert_close(normalize(image, "zscore"), (image - 0.5) * 8**0.5)


def test_zscore_of_a_constant_image_is_zero() -> None:
    assert normalize(torch.full((2, 3, 8, 8), 0.3), "zscore").eq(0).all()


def test_zscore_is_by_image_and_channel() -> None:
    image = torch.cat([noise(1, 1, 16, 16), 0.1 * noise(1, 1, 16, 16) + 0.5], dim=1)
    normalized = normalize(image, "zscore")
    torch.testing.assert_close(normalized.mean(dim=(2, 3)), torch.zeros(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.var(dim=(2, 3), unbiased=False), torch.ones(1, 2), atol=1e-4, rtol=0)


def test_resizing_under_autocast_is_refused() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(AssertionError, match="outside autocast"):
        resize_image(noise(1, 1, 8, 8), (4, 4), "stretch")
