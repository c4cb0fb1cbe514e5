"""Exports a trained candidate for other runtimes; each file is judged on validation images beside torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from segops.commands.used_model import UsedModel, used_model
from segops.contracts.backends import Backends
from segops.contracts.masks import is_foreground
from segops.contracts.model import TrainedModel
from segops.contracts.prepared import Prepared
from segops.contracts.usage import Export, ExportedFile, ExportFormat, SkippedFormat
from segops.errors import UserError
from segops.files import MIB, output_folder, run_record
from segops.params.export import ExportParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.data.arrays import PreparedData
    from segops.export.runtimes import Floats, Run
    from segops.inference.program import Program

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
ROUNDED = ("int8", "openvino_int8")  # judged by their Dice loss, not number by number
_ONNX, _INT8 = "model.onnx", "model.int8.onnx"
_OPENVINO, _OPENVINO_INT8, _TENSORRT = "model.xml", "model.int8.xml", "model.engine"


def export(
    model: str,
    formats: Sequence[str],
    params: ExportParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    prepared: Path,
    out: Path,
) -> Export:
    """Write a model in other formats, and export.json with size, time and Dice loss of each.

    For all formats also `backends/`: what `segops predict --backend` uses, which a registered version keeps.

    Args:
        model: an alias or version of the registered model, or a candidate's folder.
        formats: of FORMATS; none: all. What this machine can't make is skipped with its reason.
        prepared: the data that the model was trained on: training images calibrate, validation images judge.
        out: replaced as a whole.

    Raises:
        UserError: an unknown format, other data than the model's, or nothing that this machine could make; after
            everything is written, a format that missed its tolerance.
    """
    from segops.data.arrays import PreparedData
    from segops.inference.trained import load_program
    from segops.training.process import prepare_process

    wanted = _wanted(formats)
    prepare_process(runtime.threads)
    with used_model(model, tracking) as used:
        data = PreparedData.open(prepared)
        data.verify_pixels()
        program, trained = load_program(used.folder)
        _same_data(trained, data.meta, used, prepared)
        say(f"export: {used.shown}")
        with output_folder(out) as folder, run_record(folder, "export"):
            result = _export(_Job(program, trained, data, params, runtime.threads, folder), wanted, used)
            result.save(folder)
            if not formats:
                _backends(used, data, params, runtime.threads, tracking, folder / Backends.FOLDER)
    missed = [file.format for file in result.formats if not file.passed]
    if missed:
        raise UserError(f"{', '.join(missed)} missed the tolerance (see {out / Export.FILE}); don't use these files")
    return result


def _backends(
    used: UsedModel, data: PreparedData, params: ExportParams, threads: int, tracking: TrackingParams, folder: Path
) -> None:
    """Measure what `segops predict --backend` may use; a version keeps it."""
    from segops.commands.backends import measure_backends

    measure_backends(used, data, judging(data, params), params, threads, folder)
    if used.version is not None:
        from segops.tracking.backends import keep_backends

        keep_backends(tracking, used.version, folder)


def judging(data: PreparedData, params: ExportParams) -> list[int]:
    """Return the rows of the validation images that judge; all have foreground."""
    from segops.export.judge import spread

    rows = data.rows("val")
    data.require_foreground(rows, "validation")
    return spread([row for row in rows if is_foreground(data.mask(row)).any()], params.images)


def _wanted(formats: Sequence[str]) -> list[ExportFormat]:
    """Return the formats that are asked for, all for none. Raises UserError for an unknown format."""
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise UserError(f"--format {unknown[0]}: no such format; there are {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in formats or not formats]


def _same_data(trained: TrainedModel, data: Prepared, used: UsedModel, prepared: Path) -> None:
    """Raise UserError for other data than the model's: it would be judged on wrong images, or on its own test set."""
    for name in ("manifest_sha256", "assignment_sha256"):
        if getattr(trained, name) != getattr(data, name):
            raise UserError(
                f"{prepared / data.FILE}: not the data that {used.shown} was trained on ({name} differs); point "
                "--prepared at that data"
            )


@dataclass(frozen=True)
class _Job:
    """What every format is made of: program, data, params and the folder to write to."""

    program: Program
    trained: TrainedModel
    data: PreparedData
    params: ExportParams
    threads: int
    folder: Path

    @property
    def calibrating(self) -> list[int]:
        """The rows of the training images that calibrate."""
        from segops.export.judge import spread

        return spread(self.data.rows("train"), self.params.calibration_images)

    @property
    def judging(self) -> list[int]:
        """The rows of the validation images that judge."""
        return judging(self.data, self.params)


@dataclass(frozen=True)
class _Written:
    """A format that was written: its files, how it is run, and what was done."""

    files: list[Path]
    run: Run
    note: str = ""
    device: str = "cpu"


def _export(job: _Job, wanted: list[ExportFormat], used: UsedModel) -> Export:
    """Write the formats that this machine can make, judge them, and list the others with their reasons."""
    reasons = {name: reason for name in wanted if (reason := _lacking(name, job.program.dimensions))}
    todo = [name for name in wanted if name not in reasons]
    if not todo:
        raise UserError(f"nothing can be exported here: {'; '.join(f'{name} {why}' for name, why in reasons.items())}")
    written: dict[str, _Written] = {name: _write(job, name) for name in todo}
    for helper in (_ONNX, _INT8):  # made on the way to another format
        if not any(job.folder / helper in entry.files for entry in written.values()):
            (job.folder / helper).unlink(missing_ok=True)
    return Export(
        candidate=job.trained.candidate,
        key=job.trained.key,
        weights_sha256=job.trained.weights_sha256,
        model_name=used.model_name,
        version=used.version,
        assignment_sha256=job.trained.assignment_sha256,
        calibration_images=len(job.calibrating),
        images=len(job.judging),
        threads=job.threads,
        tolerance=job.params.tolerance,
        max_dice_loss=job.params.max_dice_loss,
        formats=_judged(job, written, used),
        skipped=[SkippedFormat(format=name, reason=reason) for name, reason in reasons.items()],
    )


def _lacking(name: ExportFormat, dimensions: int) -> str | None:
    """Return why a format can't be made here, of a program for images (2 dimensions) or volumes; None where it can."""
    from segops.export.runtimes import lacking
    from segops.export.tensorrt_file import lacking_tensorrt

    if dimensions == 3 and name == "tensorrt":
        return "is made of networks for images alone; of volumes take onnx, openvino, int8 or openvino_int8"
    missing = lacking("onnx", "onnxscript", "onnxruntime")
    if name.startswith("openvino"):
        missing = missing or lacking("openvino")
    return missing or (lacking_tensorrt() if name == "tensorrt" else None)


def _write(job: _Job, name: ExportFormat) -> _Written:
    """Write a format, and before it what it is made of."""
    from segops.export import runtimes
    from segops.export.openvino_file import write_openvino
    from segops.export.tensorrt_file import with_tensorrt, write_tensorrt

    say(f"export: {name}")
    onnx = _onnx(job)
    if name == "onnx":
        return _Written([onnx], runtimes.with_onnx_runtime(onnx, job.threads), "float32, any size of image")
    if name == "int8":
        path = _int8(job)
        return _Written([path], runtimes.with_onnx_runtime(path, job.threads), "int8 convolutions, ONNX Runtime")
    if name == "tensorrt":
        path = job.folder / _TENSORRT
        (usual_h, largest_h), (usual_w, largest_w) = job.trained.train_height_px, job.trained.train_width_px
        write_tensorrt(onnx, path, job.program.channels, (usual_h, usual_w), (2 * largest_h, 2 * largest_w))
        return _Written([path], with_tensorrt(path), "float32, for this GPU", "cuda")
    int8 = name == "openvino_int8"
    path = job.folder / (_OPENVINO_INT8 if int8 else _OPENVINO)
    write_openvino(_int8(job) if int8 else onnx, path)
    run = runtimes.with_openvino(path, job.threads)
    note = "int8 convolutions, OpenVINO" if int8 else "float32, any size of image"
    return _Written([path, path.with_suffix(".bin")], run, note)


def _onnx(job: _Job) -> Path:
    """Write the ONNX file, once; return its path."""
    from segops.export.onnx_file import write_onnx

    path = job.folder / _ONNX
    if not path.exists():
        write_onnx(job.program, path)
    return path


def _int8(job: _Job) -> Path:
    """Write the int8 ONNX file, once; return its path."""
    from segops.export.int8_file import write_int8

    path = job.folder / _INT8
    if not path.exists():
        write_int8(_onnx(job), path, _calibration(job))
    return path


def _calibration(job: _Job) -> Iterator[Floats]:
    """Read the images that calibrate."""
    from segops.data.slices import SliceData
    from segops.export.judge import inputs, spread

    data, rows, slices = job.data, job.calibrating, job.trained.input_params.slices
    if slices is not None:
        data = SliceData(job.data, slices)
        rows = spread(data.rows("train"), job.params.calibration_images)
    return inputs(data, rows, job.trained, job.program.channels)


def _judged(job: _Job, written: dict[str, _Written], used: UsedModel) -> list[ExportedFile]:
    """Judge the formats beside torch: one row per format, torch's own before those of its device."""
    from segops.contracts.model import WEIGHTS_FILE
    from segops.export.judge import REFERENCE, judge, milliseconds, spread
    from segops.export.runtimes import with_torch

    rows = []
    for device in ("cpu", "cuda"):
        on_device = {name: entry for name, entry in written.items() if entry.device == device}
        if not on_device and device == "cuda":
            continue
        runs = {REFERENCE: with_torch(job.program, device), **{name: entry.run for name, entry in on_device.items()}}
        of_model = (job.trained, job.program.channels)
        scores = judge(runs, job.data, job.judging, *of_model)
        times = milliseconds(runs, job.data, spread(job.judging, job.params.timed_images), *of_model, job.params.passes)
        torch = _Written([used.folder / WEIGHTS_FILE], runs[REFERENCE], "eager, float32", device)
        files: dict[str, _Written] = {REFERENCE: torch, **on_device}
        for name, (dice, difference) in scores.items():
            loss, speed = scores[REFERENCE][0] - dice, times[REFERENCE] / times[name]
            rows.append(_row(job, name, files[name], dice, loss, difference, times[name], speed))
    return rows


def _row(
    job: _Job, name: str, written: _Written, dice: float, loss: float, difference: float, time_ms: float, speed: float
) -> ExportedFile:
    """Build a format's row of export.json; it passes within its tolerance, or its Dice loss."""
    return ExportedFile(
        format=name,
        device=written.device,
        file=written.files[0].name if name != "torch" else None,
        size_mib=round(sum(path.stat().st_size for path in written.files) / MIB, 4),
        milliseconds=round(time_ms, 3),
        speed=round(speed, 3),
        dice=round(dice, 9),
        dice_loss=round(loss, 9),
        difference=round(difference, 9),
        passed=loss <= job.params.max_dice_loss if name in ROUNDED else difference <= job.params.tolerance,
        note=written.note,
    )
