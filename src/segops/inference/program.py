"""A candidate as one program: from an image of any size to foreground probabilities of that size.

A candidate that sees native pixels (`input.resize: none`) is exported as its network run over the whole image; in
`Predictor` it runs over windows, which near their borders see less. Test-time augmentation is a part of the program, so
that a registered version gives the probabilities that were scored; its threshold and all that follows aren't.

Axes: B batch, C channels, K output channels, H height, W width; h, w are the network's height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from segops.errors import UserError
from segops.explain import explain
from segops.files import sha256_file
from segops.inference.preprocess import pad_beyond, pad_to_multiple, resize_image, restore
from segops.inference.steps import InputSteps
from segops.inference.tta import mean_over_views
from segops.model_contracts import InputStatistics, TrainedModel
from segops.models.blocks import SegmentationNetwork
from segops.models.catalogue import build
from segops.params.candidate import CandidateParams
from segops.params.inference import TestTimeAugmentation
from segops.params.input import InputParams

WEIGHTS_FILE = "weights.safetensors"
_FOLDS, _MEMBERS = "folds.", "members."


class SegmentationProgram(nn.Module):
    """The input's steps, padding, the network and activation (the mean over the views of test-time augmentation),
    cropping and the way back, without state of its own.

    The state dict is the network's, under `network.`.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        given: InputParams,
        statistics: InputStatistics | None = None,
        tta: TestTimeAugmentation = "none",
    ) -> None:
        super().__init__()
        self.network = network
        self.steps = InputSteps(given, statistics)
        self.channels = given.channels
        self.size = given.size
        self.resize = given.resize
        self.tta = tta

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Probabilities at native size.

        Args:
            image_BCHW: float32 with the candidate's number of channels; full scale is 1, or with a clip of int16 or
                float32 images their own values.

        Returns:
            probability_BKHW: float32 in [0, 1]; K = 1, foreground, for two classes, else K classes that sum to 1.
        """
        native_hw = (image_BCHW.shape[2], image_BCHW.shape[3])
        if self.resize == "none":
            # Always more than nothing: torch.export can't leave it open whether there is padding.
            padded_BChw = pad_beyond(self.steps.enhance(image_BCHW), self.network.multiple)
            return self._probabilities(self.steps.normalize(padded_BChw))[:, :, : native_hw[0], : native_hw[1]]
        return restore(self.at_network_size(image_BCHW), native_hw, self.resize)

    def predict_window(self, image_BCHW: Tensor) -> Tensor:
        """`forward` for a window that isn't to be exported: of native pixels one of an enhanced image, padded as in
        training."""
        return self.at_native_size(image_BCHW, self._probabilities)

    def at_native_size(self, image_BCHW: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """What `compute` makes of the network's input, at the image's own size: map_BKHW.

        Args:
            compute: from normalized and padded image_BChw to a map of the same height and width.
        """
        map_BKhw = self.at_network_size(image_BCHW, compute)
        native_hw = (image_BCHW.shape[2], image_BCHW.shape[3])
        return map_BKhw if self.resize == "none" else restore(map_BKhw, native_hw, self.resize)

    def at_network_size(self, image_BCHW: Tensor, compute: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """`at_native_size` before the way back: map_BKhw; probabilities unless `compute` is given. Native pixels are
        enhanced already."""
        resized = image_BCHW
        if self.resize != "none":
            resized = resize_image(self.steps.enhance(image_BCHW), self.size, self.resize)
        padded_BChw = self.steps.normalize(pad_to_multiple(resized, self.network.multiple))
        return (compute or self._probabilities)(padded_BChw)[:, :, : resized.shape[2], : resized.shape[3]]

    def _probabilities(self, padded_BChw: Tensor) -> Tensor:
        return mean_over_views(padded_BChw, self._activated, self.tta)

    def _activated(self, padded_BChw: Tensor) -> Tensor:
        return self.network.probabilities(self.network(padded_BChw).float())


class EnsembleProgram(nn.Module):
    """The mean probability of several programs of one candidate's channels and classes."""

    def __init__(self, members: Sequence[SegmentationProgram]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.channels = members[0].channels

    @property
    def programs(self) -> list[SegmentationProgram]:
        """The members."""
        return [one for one in self.members if isinstance(one, SegmentationProgram)]

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """As `SegmentationProgram.forward`."""
        return mean_of([member(image_BCHW) for member in self.members])


Program = SegmentationProgram | EnsembleProgram


def mean_of(maps: Sequence[Tensor]) -> Tensor:
    """The mean of maps of one shape; a single one as it is."""
    return maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(dim=0)


def build_program(
    candidate: CandidateParams, classes: int, statistics: InputStatistics | None = None
) -> SegmentationProgram:
    """The program of a candidate with torch's own initial weights, in evaluation mode."""
    network = build(candidate.model, channels=candidate.input.channels, classes=classes, outputs=candidate.outputs)
    return SegmentationProgram(network, candidate.input, statistics, candidate.inference.tta).eval()


def load_program(folder: Path) -> tuple[Program, TrainedModel]:
    """A trained candidate from its folder: `model.json` and `weights.safetensors`, whose hash is verified.

    With members it is the mean of all networks, and an ensemble of folds the mean of `load_folds`.

    Raises:
        UserError: a file is missing, model.json isn't this version's, or the weights aren't those that it names.
    """
    model = TrainedModel.load(folder)
    if model.ensemble:
        return EnsembleProgram(list(load_folds(folder).values())).eval(), model
    statistics = [model.input_statistics, *(one.input_statistics for one in model.members)]
    programs = [_loaded(folder, model, one, member_prefix(at), at) for at, one in enumerate(statistics)]
    return (EnsembleProgram(programs).eval() if len(programs) > 1 else programs[0]), model


def load_folds(folder: Path) -> dict[int, SegmentationProgram]:
    """A cross-validated candidate's programs by the fold that they haven't seen; none of another candidate."""
    model = TrainedModel.load(folder)
    return {one.fold: _loaded(folder, model, one.input_statistics, fold_prefix(one.fold)) for one in model.folds}


def fold_prefix(fold: int) -> str:
    """What the names of a fold's weights begin with."""
    return f"{_FOLDS}{fold}."


def member_prefix(member: int) -> str:
    """What the names of a network's weights begin with; nothing for the candidate's own, number 0."""
    return f"{_MEMBERS}{member}." if member else ""


def _loaded(
    folder: Path, model: TrainedModel, statistics: InputStatistics | None, prefix: str, member: int = 0
) -> SegmentationProgram:
    """The program of the weights whose names begin with `prefix`; of an empty one those of no fold and no member."""
    from safetensors import safe_open

    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; run train for '{model.candidate}' again (`dvc repro`)")
    if sha256_file(path) != model.weights_sha256:
        raise UserError(f"{path}: not the weights that {TrainedModel.FILE} names; restore both or run train again")
    try:
        params = CandidateParams.model_validate(model.params)
    except ValidationError as error:
        found = explain(error, CandidateParams)
        raise UserError(f"{folder / TrainedModel.FILE}: params: {found}; train '{model.candidate}' again") from None
    program = build_program(params.networks[member], len(model.classes), statistics)
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix or (_FOLDS, _MEMBERS)) == bool(prefix)]  # noqa: SIM118
        program.network.load_state_dict({name.removeprefix(prefix): file.get_tensor(name) for name in names})
    return program


def inference_device(device: str) -> torch.device:
    """The device of `runtime.device`: auto takes cuda, else mps, where there is one. UserError: asked for in vain."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available[device]:
        raise UserError(
            f"params.yaml: runtime.device is {device}, but torch sees no such device; set auto or cpu, or install its "
            "driver"
        )
    return torch.device(device)
