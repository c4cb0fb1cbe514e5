"""Says in one screen where a project stands: what is done, stale and running, who is champion, where pages are.

A person's command, not a graph stage. Nothing is changed, and what can't be found out now is said, not an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from segops.contracts.comparison import Comparison
from segops.errors import OneLineError, UserError
from segops.files import parse_json, project_root, readable
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams

if TYPE_CHECKING:
    from segops.tracking.store import MlflowClient, Run

_DVC_S = 60.0
_DVC_LOCKS = Path(".dvc/tmp/rwlock")
_LOCK = "lock"  # of a training, in the folder of its checkpoints


@dataclass
class Status:
    """Where a project stands.

    Attributes:
        done: stages that need nothing, by name.
        stale: stages whose outputs are older than what they are made of, or are missing.
        unknown: why the stages aren't known; empty where they are.
        running: candidates that train now, with how far they are.
        cut_off: candidates whose training ended without a word; the same command resumes it.
        champion: the version in use, in words.
        challenger: the version that `compare` chose, in words.
        decision: what `compare` says.
        pages: addresses and files by name.
        mlflow: the store, or why it doesn't answer.
    """

    done: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unknown: str = ""
    running: dict[str, str] = field(default_factory=dict)
    cut_off: dict[str, str] = field(default_factory=dict)
    champion: str = "none"
    challenger: str = "none"
    decision: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    mlflow: str = ""


def status(tracking: TrackingParams, runtime: RuntimeParams, *, pages: dict[str, Path], comparison: Path) -> Status:
    """Find out where a project stands.

    Args:
        pages: our own pages by name; those that are there are named.
        comparison: the folder of `compare`.
    """
    result = Status(pages={name: str(path) for name, path in pages.items() if path.is_file()})
    asked = _ask_dvc(result)  # which takes as long as importing mlflow does
    if (comparison / Comparison.FILE).is_file():
        try:
            result.decision = Comparison.load(comparison).decision
        except UserError as error:
            result.decision = str(error)
    try:
        _ask_mlflow(result, tracking, project_root() / runtime.checkpoint_root)
    except OneLineError as error:
        result.mlflow = str(error)
    if asked is not None:
        _hear_dvc(result, asked)
    return result


def _ask_dvc(result: Status) -> subprocess.Popen[str] | None:
    """Start to ask DVC what has changed; None where it can't be asked."""
    program = shutil.which("dvc")
    if program is None or not Path("dvc.yaml").is_file():
        result.unknown = "DVC isn't installed" if program is None else "there is no dvc.yaml here"
        return None
    words = [program, "status", "--json"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # noqa: S603


def _hear_dvc(result: Status, asked: subprocess.Popen[str]) -> None:
    """Fill in which stages are done and which are stale, as DVC sees it."""
    lock = Path("dvc.lock")
    try:
        changed = parse_json(asked.communicate(timeout=_DVC_S)[0])
    except (subprocess.TimeoutExpired, ValueError):
        asked.kill()
        written = ", ".join(_being_written())
        result.unknown = f"`dvc repro` is writing {written}" if written else "DVC doesn't answer; see `dvc status`"
        return
    known: dict[str, Any] = {}
    if lock.is_file():
        with readable(lock, "lock file of DVC", "restore it from git"):
            known = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    result.stale = list(changed)
    result.done = [name for name in known if name not in changed]


def _being_written() -> list[str]:
    """List the folders that living DVC commands write now: their stages are at work, and DVC answers nobody else."""
    import psutil  # which DVC needs, too

    try:
        writers = parse_json(_DVC_LOCKS.read_text(encoding="utf-8"))["write"]
        paths = [Path(os.path.relpath(path)) for path, by in writers.items() if psutil.pid_exists(int(by["pid"]))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # DVC's own file, of which nothing is promised
    folders = {path.parent if path.suffix else path for path in paths}
    return sorted(str(folder) for folder in folders if folders.isdisjoint(folder.parents))


def _ask_mlflow(result: Status, tracking: TrackingParams, checkpoints: Path) -> None:
    """Fill in what trains, who is champion, and where MLflow's pages are. Raises TryAgainError where it is away."""
    from segops.tracking import pages, registry, store

    client = store.client()
    with store.answering():
        result.mlflow = store.shown(store.tracking_uri())
        aliases = registry.state(client, tracking.model_name).aliases
        if registry.CHAMPION in aliases:
            result.champion = _champion(client, tracking, aliases[registry.CHAMPION])
        if registry.CHALLENGER in aliases:
            result.challenger = _named(client, tracking, aliases[registry.CHALLENGER])
        for run in _open_runs(client, tracking):
            _sort(result, run, checkpoints)
        if store.is_remote(store.tracking_uri()) and (links := pages.links(client, tracking)):
            result.pages["candidates"] = f"{result.mlflow.rstrip('/')}/{links.runs}"


def _champion(client: MlflowClient, tracking: TrackingParams, version: int) -> str:
    """Name the champion, and what the ledger says of it."""
    from segops.tracking.ledger import Ledger

    return f"{_named(client, tracking, version)}, {Ledger(client, tracking).read().standing(version)}"


def _named(client: MlflowClient, tracking: TrackingParams, version: int) -> str:
    """Name a version and its candidate."""
    candidate = client.get_model_version(tracking.model_name, str(version)).tags.get("candidate", "unknown")
    return f"version {version} ({candidate})"


def _open_runs(client: MlflowClient, tracking: TrackingParams) -> list[Run]:
    """Return the candidates' runs that haven't ended."""
    from segops.tracking import store
    from segops.tracking.runs import KEY_TAG

    experiment_id = store.find_experiment(client, tracking.experiment)
    wanted = f"attributes.status = 'RUNNING' and tags.`{KEY_TAG}` LIKE '%'"
    return list(client.search_runs([experiment_id], wanted)) if experiment_id else []


def _sort(result: Status, run: Run, checkpoints: Path) -> None:
    """Put a run that hasn't ended among those that train, unless its training was here and is gone."""
    from segops.locks import is_held
    from segops.tracking.runs import KEY_TAG, PROGRESS_TAG

    tags: dict[str, Any] = run.data.tags
    own = checkpoints / tags[KEY_TAG]
    gone = own.is_dir() and not is_held(own / _LOCK)
    group = result.cut_off if gone else result.running
    group[tags.get("candidate", run.info.run_name)] = tags.get(PROGRESS_TAG, "in its first epoch")
