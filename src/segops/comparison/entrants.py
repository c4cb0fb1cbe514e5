"""Candidates that are compared: their files, read and seen to belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.contracts.evaluation import Evaluation
from segops.contracts.model import TrainedModel
from segops.contracts.registration import Registration
from segops.contracts.tables import HISTORY_FILE
from segops.errors import UserError
from segops.files import parse_json, readable

if TYPE_CHECKING:
    import pandas as pd

    from segops.comparison.paired import Judged
    from segops.pictures.thumbnails import Thumbnails


def load_pair(model: Path, report: Path) -> tuple[TrainedModel, Evaluation]:
    """Read a candidate's model.json and metrics.json.

    Raises UserError where they aren't of the same weights and test set.
    """
    trained, evaluation = TrainedModel.load(model), Evaluation.load(report)
    for name in ("candidate", "key", "weights_sha256", "test_sha256"):
        if getattr(trained, name) != getattr(evaluation, name):
            raise UserError(
                f"{report / Evaluation.FILE} is not an evaluation of {model / TrainedModel.FILE} ({name} differs); "
                f"run evaluate for '{trained.candidate}' again (`dvc repro`)"
            )
    return trained, evaluation


@dataclass(frozen=True)
class Times:
    """Holds what was measured while a candidate was trained and evaluated; None where that isn't known."""

    milliseconds: float | None
    train_seconds: float | None
    devices: str


def read_times(report: Path, model: Path) -> Times:
    """Read the times in two run.json files, which may be missing: a cache doesn't keep them."""
    evaluated, trained = (_record(folder / "run.json") for folder in (report, model))
    cost = evaluated.get("cost")
    cost = cost if isinstance(cost, dict) else {}
    devices = dict.fromkeys(str(record["device"]) for record in (trained, cost) if record.get("device"))
    return Times(
        milliseconds=_number(cost.get("milliseconds_an_image")),
        train_seconds=_number(trained.get("seconds")),
        devices=", ".join(devices),
    )


def _record(path: Path) -> dict[str, Any]:
    """Read a JSON file's object; empty where the file is missing, damaged or holds no object."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    """Return a number as float; None for any other value."""
    return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True)
class Entrant:
    """Holds what was read from a candidate's files; `history` has the columns of history.csv."""

    judged: Judged
    trained: TrainedModel
    evaluation: Evaluation
    registration: Registration
    gflops: float | None
    thumbnails: Thumbnails
    times: Times
    history: pd.DataFrame | None

    @property
    def name(self) -> str:
        """Return the candidate's name."""
        return self.judged.name


def read_entrant(name: str, report: Path, model: Path) -> Entrant:
    """Read a candidate's files: evaluation, registration, per-image table and thumbnails.

    Raises UserError where they aren't of the same weights.
    """
    from segops.comparison.paired import Judged
    from segops.contracts.per_image import read_per_image
    from segops.pictures.thumbnails import THUMBNAILS_FILE, Thumbnails

    trained, evaluation = load_pair(model, report)
    registration = Registration.load(report)
    if registration.weights_sha256 != evaluation.weights_sha256:
        raise UserError(
            f"{report / Registration.FILE} is of other weights than {report / Evaluation.FILE}; "
            f"run register for '{name}' again (`dvc repro`)"
        )
    return Entrant(
        judged=Judged(name, read_per_image(report, evaluation.classes)),
        trained=trained,
        evaluation=evaluation,
        registration=registration,
        gflops=_gflops(trained) if trained.gflops is None else trained.gflops,
        thumbnails=Thumbnails(report / THUMBNAILS_FILE),
        times=read_times(report, model),
        history=read_history(model),
    )


def read_history(folder: Path) -> pd.DataFrame | None:
    """Read a folder's history.csv; None where there is none or it has no epoch."""
    import pandas as pd

    path = folder / HISTORY_FILE
    if not path.exists():
        return None
    with readable(path, "CSV table", "run train again (`dvc repro`)"):
        table = pd.read_csv(path)
        if "epoch" not in table or (len(table) and any(table[name].dtype.kind not in "if" for name in table)):
            raise ValueError("not a table of figures by epoch")
    return None if table.empty else table  # of a model that isn't trained


def _gflops(model: TrainedModel) -> float | None:
    """Count what a model of an earlier version costs; this imports torch."""
    from segops.inference.flops import image_gflops

    return image_gflops(model)


def refuse_mixed(entrants: list[Entrant]) -> None:
    """Raise UserError, naming the candidates, unless all were judged on one test set, protocol and set of classes."""
    for field in ("protocol", "test_sha256", "classes"):
        sides: dict[str, list[str]] = {}
        for entrant in entrants:
            value = getattr(entrant.evaluation, field)
            sides.setdefault(value[:12] if isinstance(value, str) else ", ".join(value), []).append(entrant.name)
        if len(sides) > 1:
            shown = "; ".join(f"{value}: {', '.join(names)}" for value, names in sides.items())
            raise UserError(f"candidates with different {field} can't be compared ({shown}); run `dvc repro` for all")
