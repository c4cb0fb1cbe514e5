"""Filters speckle, the grain of ultrasound and SAR images: median, Lee's filter, non-local means.

Pure torch; exportable with dynamic batch, height and width. Each channel is filtered by itself, the border repeated.

Axes: B batch, C channels, H height, W width; N pixels of a window.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

from torch import Tensor
from torch.nn import functional as F

from segops.inference.enhance import percentiles
from segops.inference.rows import Rows
from segops.params.despeckle import DespeckleParams

_SMALLEST = 1e-12


def despeckle(image_BCHW: Tensor, params: DespeckleParams) -> Tensor:
    """Filter images by the method that params name."""
    match params.filter:
        case "median":
            return median(image_BCHW, params.size_px)
        case "lee":
            return lee(image_BCHW, params.size_px, params.strength)
        case "nonlocal_means":
            return nonlocal_means(image_BCHW, params.size_px, params.search_px, params.strength)


def despeckled_rows(image: Rows, params: DespeckleParams) -> Rows:
    """Filter as `despeckle` an image that is read by rows; the whole of it where the strength is estimated from it."""
    if params.filter != "median" and params.strength is None:
        return Rows.of(despeckle(image.read(0, image.height), params))
    reach = params.size_px // 2 + (params.search_px // 2 if params.filter == "nonlocal_means" else 0)

    def read(first: int, last: int) -> Tensor:
        begin, end = max(0, first - reach), min(image.height, last + reach)
        return despeckle(image.read(begin, end), params)[:, :, first - begin : last - begin]

    return replace(image, read=read)


def median(image_BCHW: Tensor, size_px: int) -> Tensor:
    """Return each pixel's median over the square window around it: scipy's `median_filter(.., mode="nearest")`."""
    batch, channels, height, width = image_BCHW.shape
    window_BxN = F.unfold(_padded(image_BCHW, size_px // 2), size_px)
    sorted_BCNP = window_BxN.view(batch, channels, size_px**2, height * width).sort(dim=2).values
    return sorted_BCNP[:, :, size_px**2 // 2].view(batch, channels, height, width)


def lee(image_BCHW: Tensor, size_px: int, variation: float | None) -> Tensor:
    """Draw each pixel towards its window's mean, the more the less the window varies beyond the noise.

    After Lee, "Digital image enhancement and noise filtering by use of local statistics", PAMI 1980, for noise that
    multiplies: the weight of the pixel is 1 - Cu² / Ci², where Cu is the noise's coefficient of variation and Ci the
    window's.

    Args:
        variation: Cu; None: the median over the image of its windows' coefficients.
    """
    mean_BCHW = _mean(image_BCHW, size_px)
    variance_BCHW = (_mean(image_BCHW.square(), size_px) - mean_BCHW.square()).clamp_min(0)
    square_BCHW = mean_BCHW.square().clamp_min(_SMALLEST)
    if variation is None:
        (noise_BC11,) = percentiles(variance_BCHW / square_BCHW, [50])
    else:
        noise_BC11 = image_BCHW.new_full((1, 1, 1, 1), variation**2)
    weight_BCHW = (1 - noise_BC11 * square_BCHW / variance_BCHW.clamp_min(_SMALLEST)).clamp(0, 1)
    return mean_BCHW + weight_BCHW * (image_BCHW - mean_BCHW)


def nonlocal_means(image_BCHW: Tensor, patch_px: int, search_px: int, strength: float | None) -> Tensor:
    """Return the mean of the pixels around each one, weighted by how alike the patches around both are.

    After Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005: exp(-d² / h²), where d² is the
    mean square difference of two patches.

    Args:
        patch_px: side of a patch.
        search_px: side of the square that pixels are taken from.
        strength: h; None: the deviation of each image's noise (Immerkær, "Fast noise variance estimation", 1996).
    """
    height, width = image_BCHW.shape[2:]
    reach = search_px // 2
    around = _padded(image_BCHW, reach)
    noise = _noise(image_BCHW) if strength is None else image_BCHW.new_full((1, 1, 1, 1), strength)
    total, weights = image_BCHW * 0, image_BCHW * 0
    for down, across in product(range(search_px), repeat=2):
        other_BCHW = around[:, :, down : down + height, across : across + width]
        distance_BCHW = _mean((image_BCHW - other_BCHW).square(), patch_px)
        weight_BCHW = (-distance_BCHW / noise.square().clamp_min(_SMALLEST)).exp()
        total, weights = total + weight_BCHW * other_BCHW, weights + weight_BCHW
    return total / weights


def _noise(image_BCHW: Tensor) -> Tensor:
    """Estimate the deviation of each image's noise, BC11, from a mask that lines and ramps don't answer to."""
    kernel = image_BCHW.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]).expand(image_BCHW.shape[1], 1, 3, 3)
    answer = F.conv2d(_padded(image_BCHW, 1), kernel, groups=image_BCHW.shape[1])
    return answer.abs().mean(dim=(2, 3), keepdim=True) * (math.sqrt(math.pi / 2) / 6)


def _mean(image_BCHW: Tensor, size_px: int) -> Tensor:
    """Return the mean over the square window around each pixel."""
    return F.avg_pool2d(_padded(image_BCHW, size_px // 2), size_px, stride=1)


def _padded(image_BCHW: Tensor, by: int) -> Tensor:
    """Repeat the border."""
    return F.pad(image_BCHW, (by, by, by, by), mode="replicate")
