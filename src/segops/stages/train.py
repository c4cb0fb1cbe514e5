"""Trains a candidate: its weights, and the rule that turns its probabilities into masks."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from statistics import median, median_low
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from segops.contracts.model import TrainedModel, TrainedWeights
from segops.contracts.tables import HISTORY_FILE, PANELS, PANELS_FILE, history_columns, write_csv
from segops.contracts.tuned import Tuned, TunedValues
from segops.contracts.volumes import Spacing
from segops.errors import UserError
from segops.files import output_folder, run_record, sha256_file, write_json
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed
from segops.params.model import pretrained_weights
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import note, say
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
    """Train a candidate; a killed run resumes after its last finished epoch and ends in the same bits.

    Under cross-validation it trains a model for each fold, and with members a network for each, in turn, each with
    checkpoints of its own.

    Reads the train and val subsets of `prepared`; never test. Its part of `best.yaml` in `tuned`, where that is given,
    goes into the params. Writes `weights.safetensors`, `model.json`, `history.csv`, `panels/` (a list alone without
    `recipe.gradcam_every`) and `run.json` to `model`. Checkpoints are in `<checkpoint_root>/<key>/`; while a process
    trains there, a second is refused. Epochs are reported to MLflow. SIGTERM keeps what an epoch has done so far.
    Under torchrun the first process calls this and the others `take_part`; all see the same `prepared` and checkpoints.

    Returns: what model.json says.
    Raises: UserError where the data, the params, memory or the disk forbid it.
    """
    from segops.data.arrays import PreparedData
    from segops.data.fit import check_images, shrink_warning
    from segops.locks import hold
    from segops.training.checkpoint import LOCK_FILE
    from segops.training.process import prepare_process
    from segops.training.torchrun import together

    prepare_process(runtime.threads)
    params, chosen = _with_tuned(candidate, params, tuned)
    data = PreparedData.open(prepared)
    data.verify_pixels()
    for network in params.networks:
        check_images(data.index, network.input, candidate)
        if warning := shrink_warning(data.index, network.input, candidate):
            say(f"train: {warning}")
    jobs = jobs_of(candidate, params, runtime, data)
    busy = f"candidate {candidate} is already being trained by {{holder}}; wait for it or stop it"
    with together(jobs[0].device.type), ExitStack() as locks:
        for job in jobs:
            locks.enter_context(hold(job.checkpoints / LOCK_FILE, refuse=busy))
        with output_folder(model) as output, run_record(output, "train") as record:
            trained = [(job, _fitted(job, tracking)) for job in jobs]
            record |= _environment(trained)
            _write_history(mean_history([fitted.history for _, fitted in used(trained)]), output / HISTORY_FILE)
            _copy_panels(trained, output / PANELS)
            return _write_model(data, trained, chosen, output)


def take_part(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    prepared: Path,
    tuned: Path | None = None,
) -> None:
    """Train beside the first process of torchrun, with the arguments of its `train`; write nothing."""
    from segops.data.arrays import PreparedData
    from segops.training.process import prepare_process
    from segops.training.torchrun import together

    prepare_process(runtime.threads)
    params, _ = _with_tuned(candidate, params, tuned)
    jobs = jobs_of(candidate, params, runtime, PreparedData.open(prepared))
    with together(jobs[0].device.type):
        for job in jobs:
            _fitted(job, tracking)


def _with_tuned(
    candidate: str, params: CandidateParams, tuned: Path | None
) -> tuple[CandidateParams, TunedValues | None]:
    """Return the candidate's params with what a search found for it, and the study and trial that is from."""
    best = Tuned.load(tuned).of(candidate, tuned) if tuned is not None else None
    if best is None or not best.values:
        return params, None
    try:
        merged = changed(params, best.values)
    except (UserError, ValidationError):
        raise UserError(
            f"{tuned}/{Tuned.FILE}: the values of {candidate} don't fit its params any more; run `segops tune` again"
        ) from None
    return merged, TunedValues(study=best.study, trial=best.trial, values=best.values)


def _fitted(job: CandidateJob, tracking: TrackingParams) -> Fitted:
    """Return the finished training: found in the checkpoints, or trained now by as many processes as devices."""
    import torch

    from segops.training.job import pretrained_file
    from segops.training.loop import Fitted, finished
    from segops.training.process import launch, make_fabric
    from segops.training.torchrun import is_first

    if not job.params.trained:
        key = torch.tensor(list(bytes.fromhex(job.run_key)), dtype=torch.uint8)
        return Fitted({"key": key}, [], best_epoch=0, images_per_second=None)
    if fitted := finished(job.checkpoints):
        if not is_first():
            return fitted
        note(f"{job.name}: already trained, {len(fitted.history)} epochs")
        with _live_run(job, tracking):  # which sends what MLflow may have missed
            return fitted
    fabric = make_fabric(job.device, job.runtime.devices, job.precision)
    launch(fabric, _fit, job=job, tracking=tracking, pretrained=pretrained_file(job))
    fitted = finished(job.checkpoints)
    assert fitted is not None
    return fitted


def _fit(fabric: Fabric, job: CandidateJob, tracking: TrackingParams, pretrained: Path | None) -> None:
    """Train, in each of the processes; the first reports to MLflow."""
    from segops.training.job import fit_job

    with ExitStack() as stack:
        live = stack.enter_context(_live_run(job, tracking)) if fabric.is_global_zero else None

        def report(row: Row) -> None:
            assert live is not None, "the first process reports"
            figures = {f"{job.series}{name}": value for name, value in row.items() if name != "epoch"}
            live.log_epoch(int(row["epoch"]), figures)

        fit_job(fabric, job, on_epoch=report, pretrained=pretrained)
    fabric.barrier()  # what the first has written is there for all


def _live_run(job: CandidateJob, tracking: TrackingParams) -> LiveRun:
    """Open the MLflow run that a training's epochs are reported to."""
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
        epochs=job.params.recipe.epochs,
        cheap_epochs=job.params.cheap_epochs,
        spool=job.checkpoints / "spool.jsonl",
        panels=job.checkpoints / PANELS,
        series=job.series,
    )


def _environment(trained: list[tuple[CandidateJob, Fitted]]) -> dict[str, Any]:
    """Return what run.json says of the machine, and of the first training's speed."""
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

    write_csv(pd.DataFrame(history, dtype=object, columns=None if history else history_columns()), path)


def _copy_panels(trained: list[tuple[CandidateJob, Fitted]], folder: Path) -> None:
    """Copy the trainings' GradCAM panels, those of a fold or a further network to a folder of its name, and list them.

    The list is there without a panel, too: DVC warns of an empty folder.
    """
    folder.mkdir()
    for job, _ in trained:
        if (panels := job.checkpoints / PANELS).is_dir():
            shutil.copytree(panels, folder / job.series, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    write_json(folder / PANELS_FILE, sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png")))


def _write_model(
    data: PreparedData, trained: list[tuple[CandidateJob, Fitted]], tuned: TunedValues | None, output: Path
) -> TrainedModel:
    """Write weights.safetensors and model.json, with the mask rule and cleaning that validation decides."""
    from safetensors.torch import save_file

    from segops.contracts.model import WEIGHTS_FILE
    from segops.evaluation.mask_rule import decide
    from segops.inference.flops import image_gflops
    from segops.inference.predict import Probabilities
    from segops.models.catalogue import build_network, count_parameters
    from segops.training.input_statistics import input_statistics

    weights = output / WEIGHTS_FILE
    save_file(all_weights(trained), weights)
    chosen = used(trained)
    (job, _), meta = trained[0], data.meta
    ensemble = job.whole.cross_validation == "ensemble"
    networks = [build_network(trained_job.params, len(meta.classes)) for trained_job, _ in chosen]
    published = pretrained_weights(job.whole.model)
    trained_weights = TrainedWeights(
        candidate=job.candidate,
        key=job.run_key,
        checkpoints=[trained_job.key for trained_job, _ in trained],
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
        input_statistics=None if ensemble else input_statistics(job.seen(), job.params.input),
        **_seen(data),
    )
    probabilities = Probabilities.of(output, trained_weights, device=job.device.type)
    decision = decide(probabilities, data, job.params.inference.postprocess)
    model = TrainedModel(**dict(trained_weights), **vars(decision), gflops=image_gflops(trained_weights))
    model.save(output)
    return model


def _median_spacing(data: PreparedData) -> Spacing | None:
    """Return the median spacing of training volumes along each axis; None where one isn't known, as of pictures."""
    spacings = [data.spacing_mm(row) for row in data.rows("train")]
    known = [spacing for spacing in spacings if spacing is not None]
    if len(known) < len(spacings):
        return None
    depth_mm, height_mm, width_mm = (round(median(along), 6) for along in zip(*known, strict=True))
    return depth_mm, height_mm, width_mm


def _seen(data: PreparedData) -> dict[str, Any]:
    """Return what model.json says of where a model's data come from, and of its training images."""
    from segops.data.fit import full_scales

    rows = data.index[data.index["subset"] == "train"]
    modalities = rows["modality"].value_counts().sort_index()
    copied = ("dataset", "source", "source_revision", "source_sha256", "licence", "protocol", "manifest_sha256")
    return {
        **{name: getattr(data.meta, name) for name in (*copied, "assignment_sha256", "test_sha256", "files", "stack")},
        "full_scale": full_scales(data),
        "train_images": len(rows),
        "train_groups": rows["group_id"].nunique(),
        "train_modalities": {str(name): int(count) for name, count in modalities.items()},
        "dimensions": data.meta.dimensions,
        **{
            f"train_{side}_px": (int(rows[side].median()), int(rows[side].max()))
            for side in ("depth", "height", "width")
        },
        "train_spacing_mm": _median_spacing(data),
    }
