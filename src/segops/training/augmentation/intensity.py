"""Changes colour, light, blur and noise of a batch, on its device. Images are float in [0, 1] and stay there.

Axes: B batch, C channels, H height, W width; S stains. All but stains goes for volumes BCDHW too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.training.augmentation.changes import Changes
from segops.training.process import put

# Optical density of red, green, blue by stain: haematoxylin, eosin, diaminobenzidine (Ruifrok and Johnston 2001).
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1e-6  # black has no optical density
_BLUR_REACH = 3.0  # standard deviations


def recolour(image_BCHW: Tensor, changes: Changes) -> Tensor:
    """Apply changes of stain, contrast, brightness, gamma, blur, noise, salt and pepper, in this order."""
    if changes.stain_B32 is not None:
        image_BCHW = _some(image_BCHW, _restain, changes.stain_B32)
    if changes.contrast_B is not None and changes.brightness_B is not None:
        image_BCHW = _relight(image_BCHW, changes.contrast_B, changes.brightness_B)
    if changes.gamma_B is not None:
        image_BCHW = image_BCHW ** _by_image(changes.gamma_B, image_BCHW)
    if changes.blur_B is not None:
        image_BCHW = _some(image_BCHW, _blur, changes.blur_B)
    if changes.noise_B is not None and changes.seed_B is not None:
        image_BCHW = _some(image_BCHW, _add_noise, changes.noise_B, changes.seed_B)
    if changes.salt_pepper_B is not None and changes.seed_B is not None:
        image_BCHW = _some(image_BCHW, _salt_and_pepper, changes.salt_pepper_B, changes.seed_B + 1)
    return image_BCHW


def _some(image_BCHW: Tensor, change: Callable[..., Tensor], amount: Tensor, *more: Tensor) -> Tensor:
    """Change the images whose amount isn't 0; the others cost nothing.

    Args:
        image_BCHW: a batch.
        change: of images, their amounts and what `more` has of them.
        amount, more: by image, on the CPU.
    """
    rows = amount.reshape(len(amount), -1).any(dim=1).nonzero()[:, 0]
    if len(rows) == 0:
        return image_BCHW
    if len(rows) == len(amount):
        return change(image_BCHW, amount, *more)
    rows_on_device = put(rows, image_BCHW.device)
    changed = change(image_BCHW.index_select(0, rows_on_device), amount[rows], *(values[rows] for values in more))
    return image_BCHW.index_copy(0, rows_on_device, changed)


def _by_image(value_B: Tensor, image_BCHW: Tensor) -> Tensor:
    """Bring values by image to the images' device, shaped to multiply them with."""
    return put(value_B, image_BCHW.device).view(-1, *[1] * (image_BCHW.dim() - 1))


def _relight(image_BCHW: Tensor, contrast_B: Tensor, brightness_B: Tensor) -> Tensor:
    # Factors, as in torchvision's ColorJitter: an offset would turn dim images black.
    """Multiply an image's contrast about its mean, then its brightness."""
    contrast, brightness = _by_image(contrast_B, image_BCHW), _by_image(brightness_B, image_BCHW)
    mean = image_BCHW.mean(dim=tuple(range(1, image_BCHW.dim())), keepdim=True)
    return (((image_BCHW - mean) * contrast + mean) * brightness).clamp(0, 1)


def _restain(image_B3HW: Tensor, stain_BS2: Tensor) -> Tensor:
    """Change the amount of each stain (Tellez et al. 2018): optical density to stains, times 1 + a plus b, and back.

    A matrix and an offset per image do it, for natural logarithms and stain vectors of length 1.
    """
    stains_S3 = F.normalize(torch.tensor(_STAINS), dim=1)
    factor_BS, added_BS = 1 + stain_BS2[..., 0], stain_BS2[..., 1]
    mixed_B33 = put((torch.linalg.inv(stains_S3) * factor_BS[:, None, :]) @ stains_S3, image_B3HW.device)
    added_B3 = put(added_BS @ stains_S3, image_B3HW.device)
    density_B3HW = -image_B3HW.clamp_min(_DARKEST).log()
    changed_B3HW = torch.einsum("bchw,bcd->bdhw", density_B3HW, mixed_B33) + added_B3[:, :, None, None]
    return (-changed_B3HW).exp().clamp(0, 1)


def _blur(image_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Blur with a Gaussian, axis by axis; borders of images are mirrored, those of volumes repeated: few have depth."""
    count, channels, *sides = image_BCHW.shape
    reach_B = (_BLUR_REACH * sigma_B).ceil()
    radius = int(reach_B.max())
    offset = torch.arange(-radius, radius + 1)
    kernel_BR = torch.exp(-(offset**2) / (2 * sigma_B[:, None] ** 2)) * (offset.abs() <= reach_B[:, None])
    kernel_BR = (kernel_BR / kernel_BR.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    kernel = put(kernel_BR, image_BCHW.device)
    border, convolve = ("reflect", F.conv2d) if len(sides) == 2 else ("replicate", F.conv3d)
    flat = F.pad(image_BCHW.reshape(1, count * channels, *sides), [radius] * 2 * len(sides), mode=border)
    for axis in range(len(sides)):
        along = [1] * len(sides)
        along[axis] = -1
        flat = convolve(flat, kernel.view(len(kernel), 1, *along), groups=count * channels)
    return flat.view(image_BCHW.shape).clamp(0, 1)


def _add_noise(image_BCHW: Tensor, std_B: Tensor, seed_B: Tensor) -> Tensor:
    """Add Gaussian noise to each image, drawn by its own seed."""
    noise_BCHW = _by_seed(torch.randn, image_BCHW.shape[1:], seed_B, image_BCHW.device)
    return (image_BCHW + noise_BCHW * _by_image(std_B, image_BCHW)).clamp(0, 1)


def _salt_and_pepper(image_BCHW: Tensor, share_B: Tensor, seed_B: Tensor) -> Tensor:
    """Turn a share of the pixels black or white, half of them each."""
    drawn_B1HW = _by_seed(torch.rand, (1, *image_BCHW.shape[2:]), seed_B, image_BCHW.device)
    half = _by_image(share_B, image_BCHW) / 2
    return image_BCHW.masked_fill(drawn_B1HW < half, 0.0).masked_fill(drawn_B1HW > 1 - half, 1.0)


def _by_seed(draw: Callable[..., Tensor], shape: Sequence[int], seed_B: Tensor, device: torch.device) -> Tensor:
    """Draw random numbers by image on the device: too many to bring from the CPU. Each image has its own seed."""
    generator = torch.Generator(device)
    return torch.stack([draw(shape, generator=generator.manual_seed(seed), device=device) for seed in seed_B.tolist()])
