"""segmentation_models_pytorch's Unet by the recipe of its own example (examples/binary_segmentation_intro.ipynb).

The recipe's: a ResNet34 encoder, images of 256x256, batches of 64, Dice loss, Adam at 2e-4 with a cosine by step down
to 1e-5, no augmentation, validation after every epoch, the last weights, threshold 0.5, the encoder's normalization.
Changed: Unet instead of FPN; no ImageNet weights, which would be a download; as many epochs as the budget holds; a
plain loop instead of Lightning's. `--size 128 --batch 8` is the same recipe at a size that a CPU trains.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.anchors.foreign import (
    Stopwatch,
    Task,
    batches,
    cpu_seconds,
    mask_of,
    read_image,
    read_task,
    set_seed,
    write_figures,
    write_masks,
)

ENCODER = "resnet34"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # `get_preprocessing_params` would ask the hub for them


class Training:
    """The recipe's network, loss and data, resized once: as the example's dataset does by PIL, bilinear and nearest."""

    def __init__(self, task: Task, epochs: int) -> None:
        import segmentation_models_pytorch as smp
        import torch

        set_seed(task.seed)
        self.size, self.batch = int(task.variant["size"]), int(task.variant["batch"])
        self.order = np.random.default_rng(task.seed)
        self.network = smp.Unet(ENCODER, encoder_weights=None, in_channels=3, classes=1)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        self.loss = smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True)
        self.train, self.val = (self.resized(task, subset) for subset in ("train", "val"))
        self.steps = -(-len(self.train[0]) // self.batch)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=epochs * self.steps, eta_min=1e-5
        )

    def resized(self, task: Task, subset: str) -> tuple[Any, Any]:
        """Return image_NCHW, uint8, and mask_N1HW of 0 and 1 of a subset."""
        import torch

        pairs = [(path, mask_of(path)) for path in task.images(subset)]
        images = np.stack([resize(read_image(path), self.size, smooth=True) for path, _ in pairs])
        masks = np.stack([resize(read_image(mask), self.size, smooth=False) for _, mask in pairs])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)[:, None].float()

    def logits(self, image_BCHW: Any) -> Any:
        """Return logits_B1HW of images from 0 to 255."""
        # The example divides by ImageNet's mean and deviation, which are of images from 0 to 1, images from 0 to 255.
        return self.network((image_BCHW.float() - self.mean) / self.std)

    def epoch(self, steps: int | None = None) -> None:
        """Train an epoch, or its first steps."""
        self.network.train()
        images, masks = self.train
        order = self.order.permutation(len(images)).tolist()
        for step, rows in enumerate(batches(order, self.batch)):
            if step == steps:
                return
            self.optimizer.zero_grad()
            self.loss(self.logits(images[rows]), masks[rows]).backward()
            self.optimizer.step()
            self.schedule.step()

    def validate(self, parts: int | None = None) -> float:
        """Return the mean Dice of the validation images at the training's size, or of the first batches of them."""
        import torch

        self.network.eval()
        images, masks = self.val
        scores: list[float] = []
        for part, rows in enumerate(batches(list(range(len(images))), self.batch)):
            if part == parts:
                break
            with torch.no_grad():
                predicted = self.logits(images[rows]) > 0
            truth = masks[rows] > 0
            overlap = (predicted & truth).sum((1, 2, 3))
            scores += (2 * overlap / (predicted.sum((1, 2, 3)) + truth.sum((1, 2, 3))).clamp_min(1)).tolist()
        return float(np.mean(scores))


def resize(array: np.ndarray, size: int, *, smooth: bool) -> np.ndarray:
    """Return an image HWC or a mask HW at size x size."""
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array).resize((size, size), how))


def epochs_within(task: Task) -> int:
    """Return how many epochs the budget holds, by the time of a step or a few."""
    tried = Training(task, epochs=1)
    steps = max(1, 32 // tried.batch)
    begin = cpu_seconds()
    tried.epoch(steps)
    trained = cpu_seconds()
    tried.validate(1)
    validated = cpu_seconds()
    train, val = len(tried.train[0]), len(tried.val[0])
    epoch_s = (trained - begin) * train / min(steps * tried.batch, train)
    epoch_s += (validated - trained) * val / min(tried.batch, val)
    return max(1, int(task.seconds / epoch_s))


def main() -> None:
    """Train within the budget, predict, and write the figures."""
    import torch

    task = read_task(size=256, batch=64)
    watch = Stopwatch()
    epochs = epochs_within(task)
    watch.lap("timing")
    training = Training(task, epochs)
    curve = []
    for epoch in range(1, epochs + 1):
        training.epoch()
        curve.append(training.validate())
        print(f"epoch {epoch} of {epochs}: validation Dice {curve[-1]:.4f}", flush=True)
    watch.lap("train")

    def predict(image_HWC: np.ndarray) -> np.ndarray:
        small_CHW = torch.from_numpy(resize(image_HWC, training.size, smooth=True).copy()).permute(2, 0, 1)
        training.network.eval()
        with torch.no_grad():
            logits_B1hw = training.logits(small_CHW[None])
        size = image_HWC.shape[:2]
        logits_B1HW = torch.nn.functional.interpolate(logits_B1hw, size, mode="bilinear", align_corners=False)
        mask_HW: np.ndarray = (logits_B1HW[0, 0] > 0).numpy()
        return mask_HW

    write_masks(task, predict)
    watch.lap("predict")
    steps = epochs * training.steps
    packages = ("segmentation_models_pytorch", "torch")
    write_figures(task, watch, packages, epochs=epochs, steps=steps, curve=curve, **task.variant)


if __name__ == "__main__":
    main()
