"""Changes a training batch at random, image and mask together, on the batch's device.

Axes: B batch, C channels, H height, W width. Images are float in [0, 1], masks uint8 class indices.
"""

from __future__ import annotations

from torch import Tensor

from segops.training.augmentation.changes import Changes
from segops.training.augmentation.intensity import recolour
from segops.training.augmentation.warp import move


def augment(image_BCHW: Tensor, mask_BHW: Tensor, changes: Changes, *more_BHW: Tensor) -> list[Tensor]:
    """Flip, turn, warp and recolour each image of a batch by its own changes; shapes and dtypes stay.

    Args:
        image_BCHW, mask_BHW: the batch.
        changes: of as many images.
        more_BHW: maps in [0, 1] that move with the images.

    Returns: the changed image_BCHW, mask_BHW and further maps.
    """
    image_BCHW, *maps_B1HW = move([image_BCHW, mask_BHW[:, None], *(more[:, None] for more in more_BHW)], changes)
    return [recolour(image_BCHW, changes), *(moved[:, 0] for moved in maps_B1HW)]
