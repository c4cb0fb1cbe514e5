"""Keeps the files that outlive a killed training: the state at an epoch's end, and the lock of who is training.

A checkpoint is a safetensors file: tensors, and all other values as JSON in a single metadata key. JSON keeps floats
exactly (repr), so a training resumes from the same bits. A hash of both is kept with them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from segops.contracts.prepared import Prepared
from segops.errors import DiskFullError
from segops.files import atomic_path, parse_json, sha256_lines
from segops.locks import is_held
from segops.params.candidate import CandidateParams
from segops.progress import say
from segops.training.code_hash import code_sha256

STATE_FILE, LOCK_FILE = "state.safetensors", "lock"
_RECORD = "record"

# What `train` imports and what can't change weights: MLflow, the way of a file whose hash params hold, pictures of a
# training, what is decided when it is done, words on the console and colours.
WITHOUT_INFLUENCE = (
    "segops.tracking",
    "segops.data.weights",
    "segops.training.panels",
    "segops.evaluation.mask_rule",
    "segops.inference.predict",
    "segops.progress",
    "segops.params.colours",
)


def training_code_sha256() -> str:
    """Hash of the code that decides weights: `train` and all that it imports, but WITHOUT_INFLUENCE."""
    return code_sha256("segops.stages.train", without=WITHOUT_INFLUENCE)


def derivation_sha256(module: str) -> str:
    """Hash of the code of a module that derives a cached file, and of all that it imports."""
    return code_sha256(module, without=(*WITHOUT_INFLUENCE, "segops.training.checkpoint"))


def training_key(
    candidate: str,
    params: CandidateParams,
    prepared: Prepared,
    *,
    threads: int,
    device: str,
    devices: int | Literal["any"],
    precision: str,
) -> str:
    """Return the name of a training: equal keys give equal weights, bit for bit, on machines of the same kind.

    It is the hash of the candidate's name and params (`inference` changes no weights), pixels and assignment, threads,
    kind and number of devices (any: equal within rounding), precision, torch's version and the code that trains.
    """
    setting = {"threads": threads, "device": device, "devices": devices, "precision": precision}
    setting["torch"] = str(torch.__version__)
    knobs = json.dumps([candidate, params.model_dump(mode="json", exclude={"inference"}), setting], sort_keys=True)
    return sha256_lines([knobs, prepared.sha256, training_code_sha256()])


def save_state(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write the state atomically. Raises DiskFullError where the disk doesn't take it; the state before then stays."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path = folder / STATE_FILE
    try:
        with atomic_path(path) as partial:
            save_file(plain, partial, metadata={_RECORD: json.dumps([_content_sha256(plain, record), record])})
    except (DiskFullError, SafetensorError) as error:
        raise DiskFullError(f"{error}; it resumes from the last saved epoch (runtime.checkpoint_root: where)") from None


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the state; None where there is none. A damaged file is reported and removed: training starts over."""
    path = folder / STATE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            expected, record = parse_json(file.metadata()[_RECORD])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _content_sha256(tensors, record) != expected:
            raise ValueError("its content differs from its hash")
        return tensors, record
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        say(f"{path}: damaged checkpoint ({error}); removed, the training starts over")
        path.unlink()
        return None


def _content_sha256(tensors: dict[str, Tensor], record: dict[str, Any]) -> str:
    """Hash all that a state holds: tensors and record."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def is_locked(folder: Path) -> bool:
    """Tell whether a running training holds this checkpoint folder."""
    return is_held(folder / LOCK_FILE)
