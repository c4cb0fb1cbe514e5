"""Holds what the commands share: default paths, options, and how a command says what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segops.params.project import Params

PARAMS = Path("params.yaml")
DATASET = Path("data/dataset")
FAULTS = Path("reports/ingest_faults.csv")
VALIDATION = Path("reports/validation")
SPLIT = Path("data/split")
PREPARED = Path("data/prepared")
TUNED = Path("models/tuned")
TUNING = Path("reports/tuning")
MODELS = Path("models/candidates")
REPORTS = Path("reports/candidates")
COMPARISON = Path("reports/comparison")
NOISE = Path("reports/noise")
AUGMENT = Path("reports/augment")
DRIFT = Path("reports/drift")
AUDIT = Path("reports/audit")
SUSPECTS = Path("reports/suspects")
CODE = Path(".segops/code")

WARM = "SEGOPS_WARM"
"""The environment variable that names the socket of a warm process; see `segops.cli.warm`."""


def candidate_names(incomplete: str) -> list[str]:
    """Return the candidates of params.yaml that begin with what was typed, for the shell's completion."""
    import yaml

    try:
        candidates = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["candidates"]
        return [str(name) for name in candidates if str(name).startswith(incomplete)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return []  # completion is no place for errors


ParamsFile = Annotated[Path, typer.Option("--params", help="The params file.")]
Candidate = Annotated[
    str, typer.Argument(help="A name under `candidates:` in params.yaml.", autocompletion=candidate_names)
]


def load(path: Path) -> Params:
    """Read the params file of a command. Raises UserError with a line for its first mistake."""
    from segops.params.project import load_params

    return load_params(path)


def wrote(folder: Path, summary: str) -> None:
    """Print where a stage wrote its outputs, and what they are."""
    typer.echo(f"{folder}: {summary}")
