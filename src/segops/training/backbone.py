"""Loads the published weights of a network's encoder, and freezes its stages until they learn.

Freezing a stage means that its parameters get no gradient and its batch norms keep their statistics.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from segops.errors import UserError
from segops.models.blocks import SegmentationNetwork
from segops.params.model import ModelParams, pretrained_params

_COUNTER = "num_batches_tracked"  # which older files lack
_DOCS = "docs/reference/models.md says how such a file is made"


@torch.no_grad()
def load_backbone(network: SegmentationNetwork, path: Path, param: str) -> None:
    """Load an encoder's weights from a safetensors file under their published names; others in it are left alone.

    Published weights see RGB. For an image of N channels the first convolution's weights are summed over RGB and shared
    out evenly: a grey image gives what its three equal channels would give.

    Args:
        network: changed in place.
        path: the file, of which the hash was checked.
        param: named in messages.

    Raises: UserError: not a safetensors file, a name is missing, or a tensor has another shape.
    """
    backbone = network.backbone()
    assert backbone is not None
    own = {name: tensor for name, tensor in backbone.state_dict().items() if not name.endswith(_COUNTER)}
    try:
        with safe_open(path, framework="pt") as file:
            missing = sorted(set(own) - set(file.keys()))
            if missing:
                raise UserError(
                    f"{param}: {path.name} has no '{missing[0]}' ({len(missing)} of {len(own)} names are missing); "
                    f"take the weights of this architecture, under their published names: {_DOCS}"
                )
            for name, tensor in own.items():
                loaded = file.get_tensor(name)
                tensor.copy_(_fitting(loaded, tensor, name == backbone.first, f"{param}: {path.name}: '{name}'"))
    except SafetensorError as error:
        raise UserError(f"{param}: {path.name} is not a safetensors file ({error}); {_DOCS}") from None


def _fitting(loaded: Tensor, wanted: Tensor, first: bool, what: str) -> Tensor:
    """Return loaded weights in the shape and type that the encoder wants. Raises UserError for another shape."""
    if first and loaded.dim() == 4 and loaded.shape[1] == 3 != wanted.shape[1]:
        channels = wanted.shape[1]
        loaded = loaded.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels
    if loaded.shape != wanted.shape:
        raise UserError(
            f"{what} has the shape {list(loaded.shape)}, this encoder's is {list(wanted.shape)}; take the weights of "
            "this encoder, or correct the model's width, variant or batch_norm"
        )
    return loaded.to(wanted.dtype)


def frozen_stages(model: ModelParams, network: SegmentationNetwork, epoch: int) -> list[nn.Module]:
    """Return the stages of a network's encoder that don't learn in an epoch (1-based)."""
    pretrained, backbone = pretrained_params(model), network.backbone()
    if pretrained is None or backbone is None:
        return []
    stages = backbone.stages()
    return stages[: len(stages) - pretrained.learning_stages(epoch, len(stages))]


def freeze(model: ModelParams, network: SegmentationNetwork, epoch: int, *, spare_work: bool) -> None:
    """Freeze the stages that don't learn in an epoch and let the others learn; call it after `network.train()`.

    Args:
        model: the network's params.
        network: changed in place.
        epoch: 1-based.
        spare_work: also spare computing the gradients. Several processes need them: DDP waits for each parameter's.
    """
    frozen = frozen_stages(model, network, epoch)
    for stage in frozen:
        stage.eval()
    if spare_work and network.backbone() is not None:
        resting = _ids(frozen)
        for parameter in network.parameters():
            parameter.requires_grad_(id(parameter) not in resting)


def drop_frozen_gradients(model: ModelParams, network: SegmentationNetwork, epoch: int) -> None:
    """Drop the gradients of frozen stages, so that the optimizer passes them by."""
    for stage in frozen_stages(model, network, epoch):
        for parameter in stage.parameters():
            parameter.grad = None


def _ids(stages: list[nn.Module]) -> set[int]:
    """Return the ids of the parameters of some stages."""
    return {id(parameter) for parameter in chain.from_iterable(stage.parameters() for stage in stages)}
