"""train: from prepared data to one candidate's weights, and the rule that turns its probabilities into masks."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from segops.contracts.model import TrainedModel, TrainedWeights
from segops.contracts.tables import HISTORY_FILE, PANELS, write_csv
from segops.contracts.tuned import Tuned, TunedValues
from segops.errors import UserError
from segops.files import output_folder, run_record, sha256_file
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed
from segops.params.model import pretrained_weights
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say
from segops.training.trainings import all_weights, fold_models, jobs_of, mean_history, member_models, used

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from segops.data.arrays import PreparedData
    from segops.tracking.live import LiveRun
    from segops.training.job import CandidateJob
    from segops.training.loop import Fitted
    from segops.training.state import Row


def train(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    prepared: Path,
    model: Path,
    tuned: Path | None = None,
) -> TrainedModel:
    """Train a candidate; a killed run goes on at its last finished epoch and ends in the same bits.

    Under cross-validation it trains a model a fold, and with members a network each, one after another, each with
    checkpoints of its own.

    Reads the train and val subsets of `prepared`; never test. Its part of `best.yaml` in `tuned`, where that is given,
    goes into the params. Writes `weights.safetensors`, `model.json`, `history.csv`, `panels/` (empty without
    `recipe.gradcam_every`) and `run.json` to `model`.
    Checkpoints stand in `<checkpoint_root>/<key>/`; while one process trains there, a second one is refused. Epochs are
    reported to MLflow.

    Raises: UserError where the data, the params, memory or the disk forbid it.
    """
    from segops.data.arrays import PreparedData
    from segops.data.fit import check_images
    from segops.locks import hold
    from segops.training.checkpoint import LOCK_FILE
    from segops.training.process import prepare_process

    prepare_process(runtime.threads)
    params, chosen = _with_tuned(candidate, params, tuned)
    data = PreparedData.open(prepared)
    data.verify_pixels()
    for network in params.networks:
        check_images(data.index, network.input, candidate)
    jobs = jobs_of(candidate, params, runtime, data)
    busy = f"candidate {candidate} is already being trained by {{holder}}; wait for it or stop it"
    with ExitStack() as locks:
        for job in jobs:
            locks.enter_context(hold(job.checkpoints / LOCK_FILE, refuse=busy))
        with output_folder(model) as output, run_record(output, "train") as record:
            trained = [(job, _fitted(job, tracking)) for job in jobs]
            record |= _environment(trained)
            _write_history(mean_history([fitted.history for _, fitted in used(trained)]), output / HISTORY_FILE)
            _copy_panels(trained, output / PANELS)
            return _write_model(data, trained, chosen, output)


def _with_tuned(
    candidate: str, params: CandidateParams, tuned: Path | None
) -> tuple[CandidateParams, TunedValues | None]:
    """The candidate's params with what a search found for it, and where that is from."""
    found = Tuned.load(tuned).of(candidate, tuned) if tuned is not None else None
    if found is None or not found.values:
        return params, None
    try:
        merged = changed(params, found.values)
    except (UserError, ValidationError):
        raise UserError(
            f"{tuned}/{Tuned.FILE}: the values of {candidate} don't fit its params any more; run `segops tune` again"
        ) from None
    return merged, TunedValues(study=found.study, trial=found.trial, values=found.values)


def _fitted(job: CandidateJob, tracking: TrackingParams) -> Fitted:
    """The finished training: found in the checkpoints, or made by as many processes as there are devices."""
    from segops.training.job import pretrained_file
    from segops.training.loop import finished
    from segops.training.process import launch, make_fabric

    if fitted := finished(job.checkpoints):
        say(f"{job.name}: already trained, {len(fitted.history)} epochs")
        with _live_run(job, tracking):  # which sends what MLflow may have missed
            return fitted
    fabric = make_fabric(job.device, job.runtime.devices, job.precision)
    launch(fabric, _fit, job=job, tracking=tracking, pretrained=pretrained_file(job))
    fitted = finished(job.checkpoints)
    assert fitted is not None
    return fitted


def _fit(fabric: Fabric, job: CandidateJob, tracking: TrackingParams, pretrained: Path | None) -> None:
    """Train, in one of the processes; MLflow looks on in the first."""
    from segops.training.job import fit_job

    with ExitStack() as stack:
        live = stack.enter_context(_live_run(job, tracking)) if fabric.is_global_zero else None

        def report(row: Row) -> None:
            assert live is not None, "the first process reports"
            figures = {f"{job.series}{name}": value for name, value in row.items() if name != "epoch"}
            live.log_epoch(int(row["epoch"]), figures)

        fit_job(fabric, job, on_epoch=report, pretrained=pretrained)


def _live_run(job: CandidateJob, tracking: TrackingParams) -> LiveRun:
    from segops.tracking.live import LiveRun
    from segops.tracking.runs import data_tags
    from segops.tracking.shown_params import shown_params

    data = data_tags(job.data.meta)
    if job.fold is not None:
        del data["split_sha256"]  # a fold's; `register` gives the candidate's
    return LiveRun(
        experiment=tracking.experiment,
        candidate=job.candidate,
        key=job.run_key,
        params=shown_params(job.whole),
        tags={"device": job.device.type, "precision": job.precision, **data},
        spool=job.checkpoints / "spool.jsonl",
        panels=job.checkpoints / PANELS,
        series=job.series,
    )


def _environment(trained: list[tuple[CandidateJob, Fitted]]) -> dict[str, Any]:
    """What run.json says of the machine, and of the first training's speed."""
    import torch

    job, fitted = trained[0]
    return {
        "device": torch.cuda.get_device_name() if job.device.type == "cuda" else job.device.type,
        "devices": job.runtime.devices,
        "precision": job.precision,
        "torch": str(torch.__version__),
        "images_per_second": fitted.images_per_second and round(fitted.images_per_second, 2),
    }


def _write_history(history: list[dict[str, float]], path: Path) -> None:
    """Write history.csv, one row per epoch."""
    import pandas as pd

    write_csv(pd.DataFrame(history, dtype=object), path)


def _copy_panels(trained: list[tuple[CandidateJob, Fitted]], folder: Path) -> None:
    """The trainings' GradCAM panels, those of a fold or a further network in a folder of its name."""
    folder.mkdir()
    for job, _ in trained:
        if (made := job.checkpoints / PANELS).is_dir():
            shutil.copytree(made, folder / job.series, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)


def _write_model(
    data: PreparedData, trained: list[tuple[CandidateJob, Fitted]], tuned: TunedValues | None, output: Path
) -> TrainedModel:
    """weights.safetensors and model.json, with the rule and cleaning that what they hold needs on validation."""
    from safetensors.torch import save_file

    from segops.contracts.model import WEIGHTS_FILE
    from segops.evaluation.mask_rule import decide
    from segops.inference.predict import Probabilities
    from segops.models.catalogue import build, count_parameters
    from segops.training.input_statistics import input_statistics

    weights = output / WEIGHTS_FILE
    save_file(all_weights(trained), weights)
    chosen = used(trained)
    (job, _), meta = trained[0], data.meta
    ensemble = job.whole.cross_validation == "ensemble"
    networks = [
        build(p.model, channels=p.input.channels, classes=len(meta.classes), outputs=p.outputs)
        for p in (one.params for one, _ in chosen)
    ]
    published = pretrained_weights(job.whole.model)
    made = TrainedWeights(
        candidate=job.candidate,
        key=job.run_key,
        checkpoints=[one.key for one, _ in trained],
        params=job.whole.model_dump(mode="json"),
        tuned=tuned,
        folds=fold_models(trained),
        members=member_models(trained),
        ensemble=ensemble,
        threads=job.runtime.threads,
        classes=meta.classes,
        class_colours=meta.class_colours,
        best_epoch=median_low(fitted.best_epoch for _, fitted in chosen),
        epochs=max(len(fitted.history) for _, fitted in chosen),
        parameters=sum(map(count_parameters, networks)),
        weights_sha256=sha256_file(weights),
        pretrained_sha256=published.sha256 if published else None,
        input_statistics=None if ensemble else input_statistics(data, job.params.input),
        **_seen(data),
    )
    decision = decide(Probabilities.of(output, made, device=job.device.type), data, job.params.inference.postprocess)
    model = TrainedModel(**dict(made), **vars(decision))
    model.save(output)
    return model


def _seen(data: PreparedData) -> dict[str, Any]:
    """Where a model's data come from, and what its training images are."""
    from segops.data.fit import full_scales

    rows = data.index[data.index["subset"] == "train"]
    modalities = rows["modality"].value_counts().sort_index()
    given = ("dataset", "source", "source_revision", "source_sha256", "licence", "protocol", "manifest_sha256")
    return {
        **{name: getattr(data.meta, name) for name in (*given, "assignment_sha256", "test_sha256", "stack")},
        "full_scale": full_scales(data.index),
        "train_images": len(rows),
        "train_groups": rows["group_id"].nunique(),
        "train_modalities": {str(name): int(count) for name, count in modalities.items()},
        "train_height_px": (int(rows["height"].median()), int(rows["height"].max())),
        "train_width_px": (int(rows["width"].median()), int(rows["width"].max())),
    }
