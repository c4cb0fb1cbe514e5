"""Measures what can run a model's network, and lets a prediction use it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segops.commands.used_model import UsedModel
from segops.contracts.backends import Backends, MeasuredBackend, SkippedBackend
from segops.errors import UserError
from segops.params.export import BACKENDS, Backend, ExportParams
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from segops.data.arrays import PreparedData
    from segops.inference.predict import Predictor


class _Scores(NamedTuple):
    """Mean Dice and AP on validation, and the median milliseconds of an image."""

    dice: float
    ap: float | None
    milliseconds: float


def measure_backends(
    used: UsedModel, data: PreparedData, rows: list[int], params: ExportParams, threads: int, folder: Path
) -> Backends:
    """Write the files of all backends that run here, and backends.json with time and loss of each.

    Args:
        rows: of validation, with foreground.
        folder: is made.
    """
    from segops.export import backends
    from segops.inference.predict import Predictor
    from segops.inference.program import SegmentationProgram

    folder.mkdir(parents=True)
    model = Predictor.load(used.folder).model
    scores, skipped = {}, []
    for backend in BACKENDS:
        predictor = Predictor.load(used.folder)  # as new: another backend's export may have moved its memory about
        reason = backends.lacking(backend, predictor.program)
        if reason is None and isinstance(predictor.program, SegmentationProgram):
            _write(backend, predictor, data, params, folder)
            try:
                predictor.program.backend = backends.runner(backend, predictor.program, folder, threads)
            except Exception as error:  # a runtime's own, for a graph or a precision that it can't take
                reason = " ".join(str(error).split())[:160] or type(error).__name__
        if reason is None:
            say(f"export: {backend}")
            scores[backend] = _scores(predictor, data, rows, params)
        else:
            skipped.append(SkippedBackend(backend=backend, reason=reason))
    table = Backends(
        candidate=model.candidate,
        weights_sha256=model.weights_sha256,
        assignment_sha256=model.assignment_sha256,
        images=len(rows),
        threads=threads,
        device="cpu",
        max_dice_loss=params.backend_dice_loss,
        max_ap_loss=params.backend_ap_loss,
        backends=[_row(backend, scores, params, folder) for backend in scores],
        skipped=skipped,
    )
    table.save(folder)
    return table


def _row(backend: Backend, scores: dict[Backend, _Scores], params: ExportParams, folder: Path) -> MeasuredBackend:
    """Compare a backend with torch."""
    from segops.export.backends import FILES
    from segops.files import sha256_file

    own, torch = scores[backend], scores["torch"]
    dice_loss = torch.dice - own.dice
    ap_loss = None if own.ap is None or torch.ap is None else torch.ap - own.ap
    return MeasuredBackend(
        backend=backend,
        milliseconds=round(own.milliseconds, 3),
        dice_loss=round(dice_loss, 9),
        ap_loss=None if ap_loss is None else round(ap_loss, 9),
        allowed=dice_loss <= params.backend_dice_loss and (ap_loss is None or ap_loss <= params.backend_ap_loss),
        files={name: sha256_file(folder / name) for name in FILES[backend]},
    )


def _write(backend: Backend, predictor: Predictor, data: PreparedData, params: ExportParams, folder: Path) -> None:
    """Write the files that a backend needs, once each."""
    from segops.export import backends
    from segops.inference.program import SegmentationProgram

    program = predictor.program
    assert isinstance(program, SegmentationProgram)
    if backend.startswith(("torch",)):
        return
    if not (folder / backends.NETWORK).exists():
        backends.write_network(program, folder)
    if backend.endswith("int8") and not (folder / backends.INT8).exists():
        backends.write_int8_network(program, folder, _calibration(predictor, data, params))
    if backend == "tensorrt":
        from segops.export.tensorrt_file import write_tensorrt

        size = backends.frame_hw(program)
        write_tensorrt(folder / backends.NETWORK, folder / backends.ENGINE, program.channels, size, size)


def _calibration(predictor: Predictor, data: PreparedData, params: ExportParams) -> Iterator[Tensor]:
    """Yield training images as the program takes them."""
    import torch

    from segops.export.judge import inputs, spread

    rows = spread(data.rows("train"), params.calibration_images)
    for image_BCHW in inputs(data, rows, predictor.model, predictor.program.channels):
        yield torch.from_numpy(image_BCHW)


def _scores(predictor: Predictor, data: PreparedData, rows: list[int], params: ExportParams) -> _Scores:
    """Score a predictor's masks and objects, and time it."""
    from segops.evaluation.metrics import defined_mean, image_dice
    from segops.evaluation.object_scores import InstanceTally
    from segops.export.judge import spread
    from segops.inference.timing import seconds

    dice, tally, classes = [], InstanceTally(), len(predictor.model.classes)
    for row in rows:
        maps, truth_HW = predictor.maps(data.image(row)), data.mask(row)
        mask_HW = predictor.decide(maps.probability_KHW)
        dice.append(image_dice(truth_HW, mask_HW, classes))
        objects_HW = predictor.objects(mask_HW, maps)
        if objects_HW is not None:
            tally.add(truth_HW, mask_HW, objects_HW, classes, data.objects(row))
    times_s = []
    for row in spread(rows, params.timed_images):
        run = partial(predictor.maps, data.image(row))
        times_s.append(statistics.median(seconds(run) for _ in range(params.passes)))
    ap = statistics.mean(tally.means()) if tally.images else None
    return _Scores(float(defined_mean(dice)), ap, 1000 * statistics.median(times_s))


def use_backend(
    predictor: Predictor, wanted: str, used: UsedModel, exported: Path | None, tracking: TrackingParams, threads: int
) -> str:
    """Let a predictor's network run on a backend, and return its name.

    Args:
        wanted: of BACKENDS, or `auto`: the fastest of those that may be used; torch where none was measured.
        exported: what `segops export` wrote; None: what the version keeps.

    Raises: UserError as `chosen`; a table of another model.
    """
    from segops.export import backends

    if wanted not in ("auto", *BACKENDS):
        raise UserError(f"--backend {wanted}: no such backend; there are auto, {', '.join(BACKENDS)}")
    if wanted == "torch":
        return wanted
    folder = exported / Backends.FOLDER if exported else _fetched(used, (Backends.FILE,), tracking)
    if folder is None:
        if wanted == "auto":
            return "torch"
        raise UserError(f"--backend {wanted}: {used.shown} has no {Backends.FILE}; run `segops export` for it first")
    table = Backends.load(folder)
    if table.weights_sha256 != predictor.model.weights_sha256:
        raise UserError(f"{folder / Backends.FILE}: measured for other weights; export {used.shown} anew")
    row = backends.chosen(table, wanted, predictor.program)
    if exported is None:
        _fetched(used, tuple(row.files), tracking)
    backends.use(row, predictor.program, folder, threads)
    return row.backend


def _fetched(used: UsedModel, names: tuple[str, ...], tracking: TrackingParams) -> Path | None:
    """Return the folder with the named files of a version's backends; None where it has none."""
    if used.version is None:
        return None
    from segops.tracking.backends import fetch_backends

    folder = used.folder / Backends.FOLDER
    return folder if fetch_backends(tracking, used.version, names, folder) else None
