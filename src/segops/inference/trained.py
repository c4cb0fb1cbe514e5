"""Builds the programs of candidates: untrained, or with the weights that a training left.

A candidate's file of weights holds those of its own network, and under prefixes those of further networks and of folds.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from segops.contracts.model import WEIGHTS_FILE, InputStatistics, TrainedModel, TrainedWeights
from segops.errors import UserError
from segops.files import sha256_file
from segops.inference.external import ExternalProgram
from segops.inference.program import EnsembleProgram, Program, SegmentationProgram, TrainPx
from segops.inference.volume_program import VolumeProgram
from segops.inference.whole_image import WholeImageProgram
from segops.models.catalogue import build_network
from segops.params.candidate import CandidateParams
from segops.params.explain import explain
from segops.params.input import InputParams
from segops.params.untrained import ExternalParams

_FOLDS, _MEMBERS = "folds.", "members."


def build_program(
    candidate: CandidateParams,
    classes: int,
    statistics: InputStatistics | None = None,
    train_px: TrainPx | None = None,
) -> SegmentationProgram:
    """Build the program of a candidate with torch's own initial weights, in evaluation mode."""
    network, tta = build_network(candidate, classes), candidate.inference.tta
    window = candidate.inference.window
    if candidate.input.of_volumes:
        return VolumeProgram(network, candidate.input, statistics, tta).eval()
    if isinstance(candidate.model, ExternalParams):
        own = candidate.inference.instances.method == "own"
        return ExternalProgram(network, candidate.input, candidate.model, classes, own_objects=own).eval()
    program = SegmentationProgram if candidate.trained else WholeImageProgram
    return program(network, candidate.input, statistics, tta, train_px, window).eval()


def load_program(folder: Path) -> tuple[Program, TrainedModel]:
    """Load a trained candidate's program and model.json from its folder, as `build_trained` does."""
    model = TrainedModel.load(folder)
    return build_trained(folder, model), model


def build_trained(folder: Path, model: TrainedWeights) -> Program:
    """Build the program of the `weights.safetensors` in a folder, whose hash is verified.

    With members it is the mean of all networks, and an ensemble of folds the mean of `build_folds`.

    Raises:
        UserError: the file is missing, model.json isn't this version's, or the weights aren't those that it names.
    """
    if model.ensemble:
        return EnsembleProgram(list(build_folds(folder, model).values())).eval()
    statistics = [model.input_statistics, *(member.input_statistics for member in model.members)]
    programs = [_loaded(folder, model, own, member_prefix(number), number) for number, own in enumerate(statistics)]
    return EnsembleProgram(programs).eval() if len(programs) > 1 else programs[0]


def build_folds(folder: Path, model: TrainedWeights) -> dict[int, SegmentationProgram]:
    """Build a cross-validated candidate's programs by the fold that they haven't seen; none of another candidate."""
    return {fold.fold: _loaded(folder, model, fold.input_statistics, fold_prefix(fold.fold)) for fold in model.folds}


def fold_prefix(fold: int) -> str:
    """Return what the names of a fold's weights begin with."""
    return f"{_FOLDS}{fold}."


def member_prefix(member: int) -> str:
    """Return what the names of a network's weights begin with; nothing for the candidate's own, number 0."""
    return f"{_MEMBERS}{member}." if member else ""


def _loaded(
    folder: Path, model: TrainedWeights, statistics: InputStatistics | None, prefix: str, member: int = 0
) -> SegmentationProgram:
    """Build the program of the weights whose names begin with `prefix`; if it is empty, those of no fold or member."""
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; run train for '{model.candidate}' again (`dvc repro`)")
    if sha256_file(path) != model.weights_sha256:
        raise UserError(f"{path}: not the weights that {TrainedModel.FILE} names; restore both or run train again")
    try:
        params = CandidateParams.model_validate(model.params)
    except ValidationError as error:
        problems = explain(error, CandidateParams)
        raise UserError(f"{folder / TrainedModel.FILE}: params: {problems}; train '{model.candidate}' again") from None
    network = params.networks[member]
    program = build_program(network, len(model.classes), statistics, _plane_px(model, network.input))
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix or (_FOLDS, _MEMBERS)) == bool(prefix)]  # noqa: SIM118
            program.network.load_state_dict({name.removeprefix(prefix): file.get_tensor(name) for name in names})
    except (RuntimeError, SafetensorError) as error:  # torch's first line names the class of the network
        problem = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{path} doesn't fit the params in {TrainedModel.FILE} ({problem}); restore both or train "
            f"'{model.candidate}' again"
        ) from None
    return program


def _plane_px(model: TrainedWeights, input_params: InputParams) -> TrainPx:
    """Return the median and largest sides of the training images that a network for images saw, slices or pictures."""
    across = input_params.slices.array_axis if input_params.slices else 0
    sides = (model.train_depth_px, model.train_height_px, model.train_width_px)
    height, width = (side for axis, side in enumerate(sides) if axis != across)
    return height, width
