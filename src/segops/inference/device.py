"""Chooses the device that networks run on."""

from __future__ import annotations

import torch

from segops.errors import UserError


def inference_device(device: str) -> torch.device:
    """Return the device of `runtime.device`; auto is cuda, else mps, else cpu. Raises UserError where it is missing."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, is_there in available.items() if is_there))
    if not available[device]:
        raise UserError(
            f"params.yaml: runtime.device is {device}, but torch sees no such device; set auto or cpu, or install its "
            "driver"
        )
    return torch.device(device)
