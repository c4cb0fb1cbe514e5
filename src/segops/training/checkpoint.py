"""Files that outlive a killed training: the state at an epoch's end, and the lock of who is training.

A checkpoint is one safetensors file: tensors, and all other values as JSON in one metadata key. JSON keeps floats
exactly (repr), so a resumed training goes on from the same bits.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import segops
from segops.contracts import Prepared
from segops.errors import UserError
from segops.files import atomic_path, sha256_file, sha256_lines
from segops.params.candidate import CandidateParams
from segops.progress import say

STATE_FILE, LOCK_FILE = "state.safetensors", "lock"
_RECORD = "record"

# What decides the weights, beside params, data and machine: folders or files under the package.
SOURCES = (
    "models",
    "training",
    "data/arrays.py",
    "data/intensities.py",
    "inference/preprocess.py",
    "inference/enhance.py",
    "inference/steps.py",
    "inference/windows.py",
    "evaluation/metrics.py",
    "stages/train.py",
)


def training_key(
    candidate: str,
    params: CandidateParams,
    prepared: Prepared,
    *,
    threads: int,
    device: str,
    devices: int,
    precision: str,
) -> str:
    """Name of a training: equal keys give equal weights, bit for bit, on one kind of machine.

    Hash of the candidate's name and params (`inference` changes no weights), pixels and assignment, threads, kind and
    number of devices, precision, torch's version and the code that trains.
    """
    setting = {"threads": threads, "device": device, "devices": devices, "precision": precision}
    setting["torch"] = str(torch.__version__)
    knobs = json.dumps([candidate, params.model_dump(mode="json", exclude={"inference"}), setting], sort_keys=True)
    return sha256_lines([knobs, prepared.sha256, code_sha256(SOURCES)])


def code_sha256(sources: Iterable[str]) -> str:
    """Hash of names and contents of the package's Python files `sources`; a folder stands for those in it."""
    package = Path(segops.__file__).parent
    files = sorted(file for source in sources for file in _python_files(package / source))
    return sha256_lines(f"{file.relative_to(package).as_posix()} {sha256_file(file)}" for file in files)


def _python_files(path: Path) -> list[Path]:
    return list(path.glob("*.py")) if path.is_dir() else [path]


def save_state(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write the state atomically. Raises UserError where the disk doesn't take it; the state before then stays."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path = folder / STATE_FILE
    try:
        with atomic_path(path) as partial:
            save_file(plain, partial, metadata={_RECORD: json.dumps(record)})
    except SafetensorError as error:
        raise UserError(
            f"{path}: can't write the checkpoint ({error}); free space or set another runtime.checkpoint_root, then "
            "run the same command again: it goes on from the last saved epoch"
        ) from None


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the state; None where there is none. A damaged file is reported and removed: training starts over."""
    path = folder / STATE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads(file.metadata()[_RECORD])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        say(f"{path}: damaged checkpoint ({error}); removed, the training starts over")
        path.unlink()
        return None


def is_locked(folder: Path) -> bool:
    """Whether a running training holds this checkpoint folder."""
    try:
        with (folder / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
