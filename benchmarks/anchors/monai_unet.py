"""MONAI's UNet by MONAI's own recipe for 2D (Project-MONAI/tutorials, 2d_segmentation/torch/unet_training_dict.py).

The recipe's: network, Dice loss, Adam at 1e-3, four crops of 96x96 from each of two images a step, half of them about
foreground, turns by 90 degrees, validation by windows every second epoch, of which the best is kept, threshold 0.5.
Changed: three channels instead of one, since the images have colour; as many epochs as the budget holds; no worker
processes, whose time would not be counted.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from benchmarks.anchors.foreign import (
    Stopwatch,
    Task,
    cpu_seconds,
    mask_of,
    read_task,
    seconds_of,
    seeded,
    set_seed,
    write_figures,
    write_masks,
)

VALIDATION_INTERVAL = 2
ROI = (96, 96)


class Training:
    """The recipe's network, loaders, loss and optimizer."""

    def __init__(self, task: Task) -> None:
        from monai.data import DataLoader, Dataset, list_data_collate
        from monai.losses import DiceLoss
        from monai.metrics import DiceMetric
        from monai.networks.nets import UNet
        from torch.optim import Adam

        set_seed(task.seed)
        train, val = (
            [{"img": str(path), "seg": str(mask_of(path))} for path in task.images(subset)]
            for subset in ("train", "val")
        )
        self.loader = DataLoader(
            Dataset(train, transforms(train=True, seed=task.seed)),
            batch_size=2,
            shuffle=True,
            collate_fn=list_data_collate,
            generator=seeded(task.seed),
        )
        self.val = DataLoader(Dataset(val, transforms(train=False)), batch_size=1, collate_fn=list_data_collate)
        self.network = UNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=1,
            channels=(16, 32, 64, 128, 256),
            strides=(2, 2, 2, 2),
            num_res_units=2,
        )
        self.loss = DiceLoss(sigmoid=True)
        self.optimizer = Adam(self.network.parameters(), 1e-3)
        self.metric = DiceMetric(include_background=True, reduction="mean", get_not_nans=False)

    def epoch(self) -> None:
        """Train an epoch."""
        self.network.train()
        for batch in self.loader:
            self.optimizer.zero_grad()
            self.loss(self.network(batch["img"]), batch["seg"]).backward()
            self.optimizer.step()

    def validate(self) -> float:
        """Return the mean Dice of the validation images."""
        for batch in self.val:
            self.metric(y_pred=[self.predict(batch["img"])[0]], y=batch["seg"])
        mean = self.metric.aggregate().item()
        self.metric.reset()
        return float(mean)

    def predict(self, image_BCHW: Any) -> Any:
        """Return mask_B1HW of 0 and 1."""
        import torch
        from monai.inferers import sliding_window_inference

        self.network.eval()
        with torch.no_grad():
            logits_B1HW = sliding_window_inference(image_BCHW, ROI, 4, self.network)
        return (logits_B1HW.sigmoid() >= 0.5).float()


def transforms(*, train: bool, seed: int = 0) -> Any:
    """Return the recipe's transforms."""
    from monai import transforms as t

    keys = ["img", "seg"]
    steps: list[Any] = [
        t.LoadImaged(keys, reader="PILReader"),
        t.EnsureChannelFirstd(["img"], channel_dim=-1),
        t.EnsureChannelFirstd(["seg"], channel_dim="no_channel"),
        t.ScaleIntensityd(keys),
    ]
    if train:
        steps += [
            t.RandCropByPosNegLabeld(keys, label_key="seg", spatial_size=[96, 96], pos=1, neg=1, num_samples=4),
            t.RandRotate90d(keys, prob=0.5, spatial_axes=(0, 1)),
        ]
    return t.Compose(steps).set_random_state(seed)


def main() -> None:
    """Train while the budget holds two further epochs and a validation, predict, and write the figures."""
    task = read_task()
    watch = Stopwatch()
    training = Training(task)
    best, weights, curve = -1.0, training.network.state_dict(), []

    def two_epochs() -> None:
        for _ in range(VALIDATION_INTERVAL):
            training.epoch()
        curve.append(training.validate())

    begin, cycle_s = cpu_seconds(), 0.0
    while cpu_seconds() - begin + cycle_s <= task.seconds:
        cycle_s = seconds_of(two_epochs)
        print(f"epoch {VALIDATION_INTERVAL * len(curve)}: validation Dice {curve[-1]:.4f}", flush=True)
        if curve[-1] > best:
            best, weights = curve[-1], copy.deepcopy(training.network.state_dict())
    training.network.load_state_dict(weights)
    watch.lap("train")
    scale = transforms(train=False).transforms[-1]

    def predict(image_HWC: np.ndarray) -> np.ndarray:
        import torch

        image_CHW = scale({"img": image_HWC.transpose(2, 0, 1), "seg": np.zeros((1, 1, 1), np.uint8)})["img"]
        mask_HW: np.ndarray = training.predict(torch.as_tensor(image_CHW)[None])[0, 0].numpy()
        return mask_HW

    write_masks(task, predict)
    watch.lap("predict")
    epochs = VALIDATION_INTERVAL * len(curve)
    steps = epochs * len(training.loader)
    write_figures(task, watch, ("monai", "torch"), epochs=epochs, steps=steps, best=best, curve=curve)


if __name__ == "__main__":
    main()
