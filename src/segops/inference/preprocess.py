"""Resizes native pixels to what a network sees, and maps back. Pure torch; `window_matrices` is exportable.

Axes: B batch, C channels, K output channels, H height, W width; h, w are the network's height and width.

Resizing is a matrix product by axis: the rows of the matrix are the triangle filter of antialiased bilinear
interpolation with half-pixel centres, equal to torch's `interpolate(mode="bilinear", antialias=True)`. Unlike
`interpolate`, it places an image of any aspect ratio inside black borders in a single step whose output has a fixed
size, and the windows of an image in a single product each way, so torch.export needs no guard on H and W.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segops.errors import UserError
from segops.inference.rows import Rows, spans
from segops.inference.windows import WindowAxis
from segops.params.input import takes_channels

Resize = Literal["stretch", "pad"]
Normalize = Literal["unit", "symmetric", "zscore", "imagenet"]
Extent = tuple[int | Tensor, int | Tensor]  # first pixel and number of pixels; of n windows along an axis, n1 and ()

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SMALLEST_STD = 1e-6
# Of ImageNet's RGB images in [0, 1], as torchvision's weights expect them.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def unit_image(image_HWC: npt.NDArray[Any], full_scale: float, channels: int) -> Tensor:
    """Return image_1CHW float32 on the CPU with `channels` channels, in [0, 1] or the units of int16 and float32.

    Of a volume DHWC it is image_1CDHW.
    """
    image_1CHW = torch.from_numpy(image_HWC.astype(np.float32)).movedim(-1, 0)[None]
    return match_channels(image_1CHW.div_(full_scale), channels)


def match_channels(image_BCHW: Tensor, channels: int) -> Tensor:
    """Turn grey into RGB by repetition, RGB into grey by Rec. 601 luma; an image that fits passes unchanged.

    Raises: UserError for any other change.
    """
    present = image_BCHW.shape[1]
    check_channels(present, channels)
    if present == channels:
        return image_BCHW
    if present == 1:
        return image_BCHW.expand(-1, channels, *image_BCHW.shape[2:])
    luma = image_BCHW.new_tensor(_LUMA).view(1, 3, *[1] * (image_BCHW.dim() - 2))
    return (image_BCHW * luma).sum(dim=1, keepdim=True)


def check_channels(present: int, channels: int) -> None:
    """Raise UserError for an image whose channels can't become those that the model takes."""
    if not takes_channels(present, channels):
        raise UserError(f"{present} channels, but the model takes {channels}; give it those that it was trained on")


def resize_image(image_BCHW: Tensor, size: tuple[int, int], how: Resize) -> Tensor:
    """Resize float images to `size` = (h, w), bilinearly with antialiasing.

    `stretch` ignores the aspect ratio; `pad` keeps it: the image is scaled to fit, centred, and has black borders.
    Call it outside autocast: resizing in bfloat16 would lose grey levels.
    """
    down, across = _to_frame((image_BCHW.shape[2], image_BCHW.shape[3]), size, how, image_BCHW)
    return _apply(down, image_BCHW, across)


def resize_rows(image: Rows, size: tuple[int, int], how: Resize) -> Tensor:
    """Resize as `resize_image` an image that is read by rows; strips of a large one are summed up."""
    strips = zip(image.spans(), image.strips(), strict=True)
    (first, last), strip_BChW = next(strips)
    down, across = _to_frame((image.height, image.width), size, how, strip_BChW)
    frame_BChw = _apply(down[:, first:last], strip_BChW, across)
    for (first, last), strip_BChW in strips:
        frame_BChw = frame_BChw + _apply(down[:, first:last], strip_BChW, across)
    return frame_BChw


def restore(map_BKHW: Tensor, native_hw: tuple[int, int], how: Resize) -> Tensor:
    """Invert the geometry of `resize_image`: maps at the network's size back to `native_hw`, bilinearly.

    Values keep their range, and a constant map stays constant; borders that `pad` added are cut off.
    """
    down, across = _from_frame(map_BKHW, native_hw, how)
    return _apply(down, map_BKHW, across)


def restored_rows(map_BKHW: Tensor, native_hw: tuple[int, int], how: Resize) -> Iterator[Tensor]:
    """Yield what `restore` returns, strip by strip from top to bottom."""
    down, across = _from_frame(map_BKHW, native_hw, how)
    for first, last in spans(*native_hw):
        yield _apply(down[first:last], map_BKHW, across)


def _to_frame(native_hw: tuple[int, int], size: tuple[int, int], how: Resize, like: Tensor) -> tuple[Tensor, Tensor]:
    """Build the matrices down and across that resize an image to the network's size."""
    rows, columns = content_extents(native_hw, size, how)
    down = _resampling(native_hw[0], (0, native_hw[0]), size[0], rows, like)
    return down, _resampling(native_hw[1], (0, native_hw[1]), size[1], columns, like)


def _from_frame(map_BKHW: Tensor, native_hw: tuple[int, int], how: Resize) -> tuple[Tensor, Tensor]:
    """Build the matrices down and across that take a map at the network's size back to the image's."""
    size = (map_BKHW.shape[2], map_BKHW.shape[3])
    rows, columns = content_extents(native_hw, size, how)
    down = _resampling(size[0], rows, native_hw[0], (0, native_hw[0]), map_BKHW)
    return down, _resampling(size[1], columns, native_hw[1], (0, native_hw[1]), map_BKHW)


def resize_mask(mask_BHW: Tensor, size: tuple[int, int], how: Resize) -> Tensor:
    """Resize masks of class indices with `resize_image`'s geometry: the nearest pixel's class, 0 in borders.

    Equal to torch's `interpolate(mode="nearest-exact")` under `stretch`. Keeps the dtype.
    """
    native_hw = (mask_BHW.shape[1], mask_BHW.shape[2])
    for axis, (begin, length) in enumerate(content_extents(native_hw, size, how), start=1):
        position = torch.arange(size[axis - 1], device=mask_BHW.device) - begin
        inside = (position >= 0) & (position < length)
        source = ((2 * position + 1) * native_hw[axis - 1]).div(2 * length, rounding_mode="floor")
        picked = mask_BHW.index_select(axis, source.clamp(0, native_hw[axis - 1] - 1))
        mask_BHW = picked * inside.to(mask_BHW.dtype).unsqueeze(-1 if axis == 1 else 0)
    return mask_BHW


def pad_to_multiple(image_BCHW: Tensor, multiples: Sequence[int]) -> Tensor:
    """Add black at the end of each axis of images or volumes until its length is a multiple of the axis's number."""
    lacking = [-side % multiple for side, multiple in zip(image_BCHW.shape[2:], multiples, strict=True)]
    return torch.nn.functional.pad(image_BCHW, [pixels for last in reversed(lacking) for pixels in (0, last)])


def window_matrices(
    axis: WindowAxis, content: Extent, length_px: int, frame_px: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """Build the matrices that take an axis of an image to all its windows in their frames, and their maps back.

    Args:
        axis: the windows along it.
        content: where a window's content lies in its frame.
        length_px: pixels of the axis, L.
        frame_px: pixels of a window at the network's size, f.
        like: its dtype and device.

    Returns:
        The matrices (n f, L) and (L, n f); in the second, windows have their weights.
    """
    cut = (axis.start_n[:, None], axis.length)
    into_nfL = _resampling(length_px, cut, frame_px, content, like)
    back_nLf = _resampling(frame_px, content, length_px, cut, like) * axis.weight_nL[:, :, None].to(like)
    return into_nfL.flatten(0, 1), back_nLf.transpose(0, 1).flatten(1)


def memory_layout(dimensions: int) -> torch.memory_format:
    """Return torch's layout with channels last, of images (2 dimensions) or volumes (3)."""
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d


def normalize(image_BCHW: Tensor, how: Normalize) -> Tensor:
    """Change the value range of images in [0, 1].

    `unit` keeps [0, 1]; `symmetric` gives [-1, 1]; `zscore` gives each channel of each image zero mean and unit
    deviation (a constant channel becomes 0); `imagenet` takes ImageNet's mean and deviation of each channel, of RGB or,
    for another number of channels, their means over RGB.
    """
    if how == "unit":
        return image_BCHW
    if how == "symmetric":
        return image_BCHW * 2 - 1
    if how == "imagenet":
        mean_C11, deviation_C11 = (_by_channel(values, image_BCHW) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
        return (image_BCHW - mean_C11) / deviation_C11
    sides = tuple(range(2, image_BCHW.dim()))
    centred = image_BCHW - image_BCHW.mean(dim=sides, keepdim=True)
    deviation = centred.square().mean(dim=sides, keepdim=True).sqrt()
    return centred / deviation.clamp_min(_SMALLEST_STD) * (deviation > _SMALLEST_STD)


def _by_channel(rgb: tuple[float, float, float], image_BCHW: Tensor) -> Tensor:
    """Return ImageNet's figures by channel, C11: of RGB, or their mean for another number of channels."""
    channels = image_BCHW.shape[1]
    values = rgb if channels == 3 else (sum(rgb) / 3,) * channels
    return image_BCHW.new_tensor(values).view(channels, *[1] * (image_BCHW.dim() - 2))


def content_extents(
    native_hw: tuple[int | Tensor, int | Tensor], size: tuple[int, int], how: Resize
) -> tuple[Extent, Extent]:
    """Return where an image lies inside `size`: rows and columns. Integers without a branch, for export."""
    if how == "stretch":
        return (0, size[0]), (0, size[1])
    (height, width), (fit_h, fit_w) = map(torch.as_tensor, native_hw), size
    rows = ((2 * height * fit_w + width) // (2 * width)).clamp(1, fit_h)
    columns = ((2 * width * fit_h + height) // (2 * height)).clamp(1, fit_w)
    return ((fit_h - rows) // 2, rows), ((fit_w - columns) // 2, columns)


def _resampling(source_px: int, source: Extent, target_px: int, target: Extent, like: Tensor) -> Tensor:
    """Build the matrix (target_px, source_px), or for n windows n matrices, that takes `source` of an axis to `target`.

    Its rows sum to 1 inside `target` and to 0 outside. Half-pixel centres; where it shrinks, the triangle filter is
    widened by the scale (antialiasing).
    """
    device = _double_device(like)
    scale = torch.as_tensor(source[1], dtype=torch.float64, device=device) / target[1]
    position = _centres(target_px, target[0], device)
    inside = (position > 0) & (position < target[1])
    centre = position * scale
    sample = _centres(source_px, source[0], device)
    usable = (sample > 0) & (sample < source[1])
    distance = (sample[..., None, :] - centre[..., :, None]).abs() / scale.clamp_min(1)
    weight = (1 - distance).clamp_min(0) * usable[..., None, :]
    weight = weight / weight.sum(dim=-1, keepdim=True).clamp_min(1e-12) * inside[..., :, None]
    return weight.to(device=like.device, dtype=like.dtype)


def _double_device(like: Tensor) -> torch.device:
    """Return where to compute in float64 for `like`: mps has none."""
    return torch.device("cpu") if like.device.type == "mps" else like.device


def _centres(length_px: int, begin: int | Tensor, device: torch.device) -> Tensor:
    """Return where the pixel centres of an axis lie, counted from the pixel `begin`, or from each of n1 such pixels."""
    return torch.arange(length_px, dtype=torch.float64, device=device) - begin + 0.5


def _apply(down: Tensor, image_BCHW: Tensor, across: Tensor) -> Tensor:
    """Resample images by a matrix down and a matrix across."""
    resized: Tensor = down @ image_BCHW @ across.T
    assert resized.dtype == image_BCHW.dtype, "resize outside autocast"
    return resized
