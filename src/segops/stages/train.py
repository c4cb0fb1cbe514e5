"""train: from prepared data to one candidate's weights and its threshold."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts import HISTORY_COLUMNS, TrainedModel
from segops.files import output_folder, project_root, run_record, sha256_file, write_text
from segops.params import CandidateParams, RuntimeParams, TrackingParams
from segops.progress import say, track

if TYPE_CHECKING:
    from segops.data.arrays import PreparedData
    from segops.training.loop import Fitted

HISTORY_FILE = "history.csv"


def train(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    prepared: Path,
    model: Path,
) -> TrainedModel:
    """Train a candidate; a killed run goes on at its last finished epoch and ends in the same bits.

    Reads the train and val subsets of `prepared`; never test. Writes `weights.safetensors`, `model.json`, `history.csv`
    and `run.json` to `model`. Checkpoints stand in `<checkpoint_root>/<key>/`; while one process trains there, a second
    one is refused. Epochs are reported to MLflow.

    Raises: UserError where the data, the params, memory or the disk forbid it.
    """
    import torch

    from segops.data.arrays import PreparedData
    from segops.inference.program import inference_device
    from segops.tracking.live import LiveRun
    from segops.training.batches import resized_subsets
    from segops.training.checkpoint import LOCK_FILE, hold, training_key
    from segops.training.loop import fit
    from segops.training.runtime import prepare_process, resolve_precision

    prepare_process(runtime.threads)
    data = PreparedData.open(prepared)
    device = inference_device(runtime.device)
    precision = resolve_precision(params.recipe.precision, device)
    key = training_key(candidate, params, data.meta, threads=runtime.threads, device=device.type, precision=precision)
    root = project_root()
    checkpoints = root / runtime.checkpoint_root / key
    busy = f"candidate {candidate} is already being trained by {{holder}}; wait for it or stop it"
    with (
        hold(checkpoints / LOCK_FILE, refuse=busy),
        output_folder(model) as output,
        run_record(output, "train") as record,
    ):
        subsets = resized_subsets(data, params.input, root / runtime.cache_root)
        say(f"{candidate}: {len(subsets['train'])} training images, {device.type}, {precision}, key {key[:7]}")
        with LiveRun(
            experiment=tracking.experiment,
            candidate=candidate,
            key=key,
            params=params.model_dump(mode="json"),
            tags={"device": device.type, "precision": precision},
            spool=checkpoints / "spool.jsonl",
        ) as live:
            fitted = fit(
                candidate,
                params,
                subsets,
                classes=len(data.meta.classes),
                device=device,
                precision=precision,
                checkpoints=checkpoints,
                on_epoch=lambda row: live.log_epoch(
                    int(row["epoch"]), {name: row[name] for name in HISTORY_COLUMNS[1:]}
                ),
            )
        record |= {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "precision": precision,
            "torch": str(torch.__version__),
            "images_per_second": fitted.images_per_second and round(fitted.images_per_second, 2),
        }
        _write_history(fitted.history, output / HISTORY_FILE)
        return _write_model(candidate, params, runtime, data, fitted, key, device.type, output)


def _write_history(history: list[dict[str, float]], path: Path) -> None:
    """history.csv, floats by repr."""
    text = io.StringIO()
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


def _write_model(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    data: PreparedData,
    fitted: Fitted,
    key: str,
    device: str,
    output: Path,
) -> TrainedModel:
    """weights.safetensors and model.json, with the threshold that what they hold needs on validation."""
    from safetensors.torch import save_file

    from segops.data.images import FULL_SCALE
    from segops.inference.program import WEIGHTS_FILE, build_program
    from segops.models.catalogue import count_parameters

    weights = output / WEIGHTS_FILE
    save_file(fitted.weights, weights)
    meta = data.meta
    model = TrainedModel(
        candidate=candidate,
        key=key,
        params=params.model_dump(mode="json"),
        threads=runtime.threads,
        classes=meta.classes,
        threshold=0.5,
        val_dice=0.0,
        best_epoch=fitted.best_epoch,
        epochs=len(fitted.history),
        parameters=count_parameters(build_program(params, len(meta.classes))),
        weights_sha256=sha256_file(weights),
        dataset=meta.dataset,
        source=meta.source,
        source_sha256=meta.source_sha256,
        licence=meta.licence,
        protocol=meta.protocol,
        manifest_sha256=meta.manifest_sha256,
        assignment_sha256=meta.assignment_sha256,
        test_sha256=meta.test_sha256,
        full_scale=FULL_SCALE,
        train_height_px=_median_and_largest(data, "height"),
        train_width_px=_median_and_largest(data, "width"),
    )
    model.save(output)
    threshold, val_dice = _choose_threshold(data, output, device)
    model = model.model_copy(update={"threshold": threshold, "val_dice": val_dice})
    model.save(output)
    return model


def _choose_threshold(data: PreparedData, folder: Path, device: str) -> tuple[float, float]:
    """The threshold with the best mean Dice over validation images at native size, predicted by what was written."""
    from segops.evaluation.metrics import choose_threshold
    from segops.inference.predict import Predictor

    predictor, rows = Predictor.load(folder, device=device), data.rows("val")
    probabilities = (predictor.foreground(data.image(row)) for row in track(rows, "threshold on validation"))
    return choose_threshold(probabilities, (data.mask(row) > 0 for row in rows))


def _median_and_largest(data: PreparedData, side: str) -> tuple[int, int]:
    sides = data.index.loc[data.index["subset"] == "train", side]
    return int(sides.median()), int(sides.max())
