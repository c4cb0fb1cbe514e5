"""Measures how far a candidate's validation Dice moves between seeds.

A person's command, not a graph stage.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.model import TrainedModel
from segops.contracts.noise import Noise
from segops.errors import UserError
from segops.files import output_folder, run_record
from segops.params.candidate import CandidateParams, NetworkParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import note

if TYPE_CHECKING:
    from segops.data.arrays import PreparedData

_COVERAGE = 0.95


def noise(
    runtime: RuntimeParams, tracking: TrackingParams, *, seeds: int, prepared: Path, model: Path, report: Path
) -> Noise:
    """Train a trained candidate again under other seeds, and log how much its score moved to its MLflow run.

    A killed command resumes; what `report` holds of this model is not trained again. The trainings are
    runs in an experiment of their own. Reads the train and val subsets of `prepared`; never test. Writes noise.json
    and run.json to `report`.

    Args:
        seeds: trainings, the candidate's own included.

    Raises:
        UserError: the model isn't what training it here and now would give, or MLflow has no run of it.
    """
    from segops.data.arrays import PreparedData
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    trained, data = TrainedModel.load(model), PreparedData.open(prepared)
    params = CandidateParams.model_validate(trained.params)
    if not params.trained:
        raise UserError(f"'{trained.candidate}' trains nothing, so that seeds change nothing in it")
    if params.cross_validation == "scores":  # the folds' models are not the candidate
        params = params.model_copy(update={"cross_validation": "none"})
    _same_training(trained, runtime, data, model)
    known = {params.recipe.seed: trained.val_dice} | _measured(report, trained.key)
    wanted = [reseeded(params, number) for number in range(seeds)]
    keys: list[str] = []
    for seeded in wanted:
        if (seed := seeded.recipe.seed) not in known:
            again = _trained(trained.candidate, seeded, runtime, tracking, prepared)
            known[seed], keys = again.val_dice, [*keys, *again.checkpoints]
        note(f"{trained.candidate}, seed {seed}: validation Dice {known[seed]:.4f}")
    result = seed_noise(trained, known)
    with output_folder(report) as folder, run_record(folder, "noise"):
        result.save(folder)
    _remove_checkpoints(keys, runtime)
    _log_noise(result, tracking, report)
    return result


def seed_noise(model: TrainedModel, dices: dict[int, float]) -> Noise:
    """Measure how far two trainings of a model lie apart by their seed alone.

    With n seeds of standard deviation s, the difference of two further trainings over s sqrt(2) follows Student's t
    with n - 1 degrees of freedom, where scores are normal; the floor is its two-sided 95 % bound. Few seeds make it
    wide: 6.1 s for three, 3.2 s for ten.

    Args:
        dices: validation Dice by seed, of at least two seeds.
    """
    from scipy.stats import t

    deviation = statistics.stdev(dices.values())
    bound = float(t.ppf((1 + _COVERAGE) / 2, len(dices) - 1)) * math.sqrt(2) * deviation
    return Noise(
        candidate=model.candidate,
        key=model.key,
        seeds=list(dices),
        val_dice=list(dices.values()),
        deviation=round(deviation, 9),
        floor=round(bound, 9),
    )


def reseeded(params: CandidateParams, number: int) -> CandidateParams:
    """Return the candidate with all its networks' seeds moved on `number` times; no two seeds are used twice."""
    seeds = [network.recipe.seed for network in params.networks]
    step = number * (1 + max(seeds) - min(seeds))

    def moved(network: NetworkParams) -> NetworkParams:
        recipe = network.recipe.model_copy(update={"seed": network.recipe.seed + step})
        return network.model_copy(update={"recipe": recipe})

    members = tuple(moved(member) for member in params.members)
    return params.model_copy(update={"recipe": moved(params).recipe, "members": members})


def _same_training(trained: TrainedModel, runtime: RuntimeParams, data: PreparedData, model: Path) -> None:
    """Raise UserError where trainings now would differ from the model's by more than their seed."""
    from segops.training.trainings import jobs_of

    params = CandidateParams.model_validate(trained.params)
    if jobs_of(trained.candidate, params, runtime, data)[0].run_key != trained.key:
        raise UserError(
            f"{model / TrainedModel.FILE}: '{trained.candidate}' was trained with other data, code, threads or on "
            "another kind of device, so seeds wouldn't be all that differs; run train again (`dvc repro`)"
        )


def _measured(report: Path, key: str) -> dict[int, float]:
    """Return the validation Dice by seed that an earlier call measured for this model."""
    if not (report / Noise.FILE).is_file():
        return {}
    earlier = Noise.load(report)
    return dict(zip(earlier.seeds, earlier.val_dice, strict=True)) if earlier.key == key else {}


def _trained(
    candidate: str, params: CandidateParams, runtime: RuntimeParams, tracking: TrackingParams, prepared: Path
) -> TrainedModel:
    """Run the whole of `train` in an experiment of its own; the checkpoints stay until all seeds are done."""
    from segops.stages.train import train

    apart = tracking.model_copy(update={"experiment": f"{tracking.experiment}-noise"})
    with tempfile.TemporaryDirectory() as scratch:
        return train(candidate, params, runtime, apart, prepared=prepared, model=Path(scratch) / "model")


def _remove_checkpoints(keys: Sequence[str], runtime: RuntimeParams) -> None:
    """Remove the checkpoints of the repeated trainings."""
    from segops.files import project_root
    from segops.tuning.training import remove_checkpoint

    for key in keys:
        remove_checkpoint(project_root() / runtime.checkpoint_root / key)


def _log_noise(result: Noise, tracking: TrackingParams, report: Path) -> None:
    """Put noise.json and its figures where the gate finds them: into the candidate's run."""
    from segops.tracking import runs, store

    client = store.client(tracking)
    with store.answering():
        run = runs.find_run(client, experiment=tracking.experiment, candidate=result.candidate, key=result.key)
        if run is None:
            raise UserError(
                f"{report} is written, but MLflow has no run of '{result.candidate}' that could tell the gate; run "
                f"`segops register {result.candidate}`, then this command again"
            )
        client.log_artifact(run.info.run_id, str(report / Noise.FILE))
        runs.log_scores(client, run, {"noise/dice_deviation": result.deviation, "noise/dice_floor": result.floor})
