"""Changes of colour and light, blur and noise of a batch, on its device. Images are float in [0, 1] and stay there.

Axes: B batch, C channels, H height, W width; S stains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.training.changes import Changes
from segops.training.runtime import put

# Optical density of red, green, blue by stain: haematoxylin, eosin, diaminobenzidine (Ruifrok and Johnston 2001).
_STAINS_S3 = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)
_DARKEST = 1e-6  # black has no optical density
_BLUR_REACH = 3.0  # standard deviations


def recolour(image_BCHW: Tensor, changes: Changes) -> Tensor:
    """Stain, contrast, brightness, gamma, blur, noise, salt and pepper, in this order."""
    if changes.stain_B32 is not None:
        image_BCHW = _some(image_BCHW, changes.stain_B32, _restain)
    if changes.contrast_B is not None and changes.brightness_B is not None:
        image_BCHW = _relight(image_BCHW, changes.contrast_B, changes.brightness_B)
    if changes.gamma_B is not None:
        image_BCHW = image_BCHW ** put(changes.gamma_B, image_BCHW.device).view(-1, 1, 1, 1)
    if changes.blur_B is not None:
        image_BCHW = _some(image_BCHW, changes.blur_B, _blur)
    if changes.noise_B is not None and changes.seed_B is not None:
        image_BCHW = _some(image_BCHW, _with_seed(changes.noise_B, changes.seed_B), _add_noise)
    if changes.salt_pepper_B is not None and changes.seed_B is not None:
        image_BCHW = _some(image_BCHW, _with_seed(changes.salt_pepper_B, changes.seed_B), _salt_and_pepper)
    return image_BCHW


def _relight(image_BCHW: Tensor, contrast_B: Tensor, brightness_B: Tensor) -> Tensor:
    # Factors, as in torchvision's ColorJitter: an offset would turn dim images black.
    contrast, brightness = (put(one, image_BCHW.device).view(-1, 1, 1, 1) for one in (contrast_B, brightness_B))
    mean = image_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (((image_BCHW - mean) * contrast + mean) * brightness).clamp(0, 1)


def _restain(image_B3HW: Tensor, stain_BS2: Tensor) -> Tensor:
    """Other amounts of each stain (Tellez et al. 2018): optical density to stains, times 1 + a plus b, and back.

    One matrix and one offset an image do it, for natural logarithms and stain vectors of length 1.
    """
    factor_BS, added_BS = (1 + stain_BS2[..., 0]), stain_BS2[..., 1]
    mixed_B33 = (torch.linalg.inv(_STAINS_S3) * factor_BS[:, None, :]) @ _STAINS_S3
    mixed_B33, added_B3 = put(mixed_B33, image_B3HW.device), put(added_BS @ _STAINS_S3, image_B3HW.device)
    density_B3HW = -image_B3HW.clamp_min(_DARKEST).log()
    changed_B3HW = torch.einsum("bchw,bcd->bdhw", density_B3HW, mixed_B33) + added_B3[:, :, None, None]
    return (-changed_B3HW).exp().clamp(0, 1)


def _blur(image_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
    """Gaussian blur, rows then columns; borders are mirrored."""
    count, channels, height, width = image_BCHW.shape
    reach_B = (_BLUR_REACH * sigma_B).ceil()
    radius = int(reach_B.max())
    offset = torch.arange(-radius, radius + 1)
    kernel_BR = torch.exp(-(offset**2) / (2 * sigma_B[:, None] ** 2)) * (offset.abs() <= reach_B[:, None])
    kernel_BR = (kernel_BR / kernel_BR.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    kernel = put(kernel_BR, image_BCHW.device)
    flat = F.pad(image_BCHW.reshape(1, count * channels, height, width), [radius] * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.view(image_BCHW.shape).clamp(0, 1)


def _add_noise(image_BCHW: Tensor, std_and_seed_B2: Tensor) -> Tensor:
    std_B, seed_B = std_and_seed_B2.unbind(dim=1)
    noise_BCHW = _by_seed(torch.randn, image_BCHW.shape[1:], seed_B, image_BCHW.device)
    return (image_BCHW + noise_BCHW * put(std_B.float(), image_BCHW.device).view(-1, 1, 1, 1)).clamp(0, 1)


def _salt_and_pepper(image_BCHW: Tensor, share_and_seed_B2: Tensor) -> Tensor:
    share_B, seed_B = share_and_seed_B2.unbind(dim=1)
    drawn_B1HW = _by_seed(torch.rand, (1, *image_BCHW.shape[2:]), seed_B + 1, image_BCHW.device)
    half = put(share_B.float(), image_BCHW.device).view(-1, 1, 1, 1) / 2
    return image_BCHW.masked_fill(drawn_B1HW < half, 0.0).masked_fill(drawn_B1HW > 1 - half, 1.0)


def _with_seed(amount_B: Tensor, seed_B: Tensor) -> Tensor:
    return torch.stack([amount_B.double(), seed_B.double()], dim=1)  # which holds a seed of 31 bits exactly


def _by_seed(draw: Callable[..., Tensor], shape: Sequence[int], seed_B: Tensor, device: torch.device) -> Tensor:
    """Random numbers by image, drawn on the device: too many to bring from the CPU. Each image has its own seed."""
    generator = torch.Generator(device)
    seeds = [int(seed) for seed in seed_B.tolist()]
    return torch.stack([draw(shape, generator=generator.manual_seed(seed), device=device) for seed in seeds])


def _some(image_BCHW: Tensor, amount: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Change the images whose amount (its first value, where it has several) isn't 0; the others cost nothing."""
    first = amount if amount.ndim == 1 else amount.flatten(1)[:, 0]
    rows = first.nonzero()[:, 0]
    if len(rows) in (0, len(first)):
        return change(image_BCHW, amount) if len(rows) else image_BCHW
    at = put(rows, image_BCHW.device)
    return image_BCHW.index_copy(0, at, change(image_BCHW.index_select(0, at), amount[rows]))
