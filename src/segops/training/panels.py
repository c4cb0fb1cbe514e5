"""Writes what a network looks at while it learns: GradCAM panels of a few validation images, as files.

A panel shows the image, its true foreground (white), the network's probability of foreground, and GradCAM over the
image, all as the network's input has them; of a volume the slice with the most foreground. The network is the validated
network, in evaluation mode: no weight, gradient, statistic or random number of the training changes. An epoch that a
resumed training repeats writes the same bytes again.

Axes: B batch, C channels, H height, W width; a pair's two channels are probability and GradCAM.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segops.contracts.masks import IGNORED, is_foreground
from segops.files import atomic_path
from segops.inference.volume_windows import blended
from segops.models.blocks import SegmentationNetwork
from segops.pictures.gradcam import class_activation
from segops.pictures.heat_maps import heat, heat_over, side_by_side
from segops.pictures.images import Picture, mask_picture, picture, png
from segops.training.state import TrainingState
from segops.training.task import Task, logits, network_input

_IMAGES = 4
_HEIGHT_PX = 256
_FAINTEST = 1e-12
_TWO_CLASSES = ("background", "foreground")


def write_panels(task: Task, state: TrainingState, epoch: int, folder: Path) -> None:
    """Write `<folder>/epoch_<number>/<image id>.png` after every `recipe.gradcam_every` epochs.

    Args:
        task: the training.
        state: after that epoch's validation.
        epoch: 1-based.
        folder: beside the checkpoints.
    """
    every = task.recipe.gradcam_every
    if every is None or epoch % every:
        return
    for row in _spread(len(task.subsets.val)):
        with atomic_path(folder / f"epoch_{epoch:04d}" / f"{task.subsets.val_ids[row]}.png") as partial_path:
            partial_path.write_bytes(png(_panel(task, state, row)))


def _spread(images: int) -> list[int]:
    """Return the rows of `_IMAGES` images at equal distances, from the first on; all rows of fewer."""
    count = min(_IMAGES, images)
    return [number * images // count for number in range(count)]


@torch.no_grad()
def _panel(task: Task, state: TrainingState, row: int) -> Picture:
    """Draw the panel of a validation image."""
    device, input_params = task.fabric.device, task.params.input
    image_BCHW, mask_BHW = task.subsets.val.batch([row], device)
    pair_B2HW = blended(image_BCHW, input_params.size, input_params.window_overlap, partial(_pair, task, state))
    mask_HW, image_CHW, pair_2HW = _shown_plane(mask_BHW[0], image_BCHW[0], pair_B2HW[0])
    probability_HW, cam_HW = pair_2HW.float().cpu().numpy()
    image_HWC = (image_CHW.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    truth_HW = np.where(mask_HW == IGNORED, mask_HW, mask_HW > 0).astype(np.uint8)
    smooth, hard = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
    parts = [
        (picture(image_HWC), smooth),
        (mask_picture(truth_HW, _TWO_CLASSES), hard),
        (heat(probability_HW), smooth),
        (heat_over(image_HWC, cam_HW / max(float(cam_HW.max()), _FAINTEST)), smooth),
    ]
    return side_by_side(parts, _HEIGHT_PX)


def _shown_plane(mask: Tensor, image: Tensor, pair: Tensor) -> tuple[npt.NDArray[np.uint8], Tensor, Tensor]:
    """Return mask_HW on the CPU, image_CHW and pair_2HW; of a volume those of the slice with the most foreground."""
    if mask.dim() == 3:
        number = int(is_foreground(mask).flatten(1).sum(dim=1).argmax())
        mask, image, pair = mask[number], image[:, number], pair[:, number]
    return mask.cpu().numpy(), image, pair


def _pair(task: Task, state: TrainingState, image_BCHW: Tensor) -> Tensor:
    """Return the probability of foreground and GradCAM of images in [0, 1], pair_B2HW."""
    judged = state.judged
    assert isinstance(judged, SegmentationNetwork)
    judged.eval()
    probability_BKHW = judged.class_probabilities(logits(task, state, judged, image_BCHW))
    foreground_B1HW = probability_BKHW if probability_BKHW.shape[1] == 1 else 1 - probability_BKHW[:, :1]
    with task.fabric.autocast():
        cam_B1HW = class_activation(judged, network_input(task, state, image_BCHW))
    return torch.cat([foreground_B1HW, cam_B1HW[:, :, *map(slice, image_BCHW.shape[2:])]], dim=1)
