"""Trains on nodes that share a volume: puts there what they need, runs the job, fetches what it wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from components.train_job.request import TrainRequest
from components.train_job.trainjob import JobRunner
from segops.contracts.model import TrainedModel
from segops.contracts.prepared import Prepared
from segops.files import output_folder, project_root, sha256_lines
from segops.locks import hold
from segops.params.kubeflow import KubeflowParams

_PASSED_ON = ("SEGOPS_ENGINE", "SEGOPS_KFP_RUN_ID", "SEGOPS_KFP_UI")
_DIGITS = 12


def train_on_nodes(
    texts: Mapping[str, str],
    on: KubeflowParams,
    *,
    code: str,
    prepared: Path,
    tuned: Path,
    model: Path,
    runner: JobRunner | None = None,
) -> TrainedModel:
    """Train a candidate as a TrainJob; arguments as of the component.

    Prepared data are copied to the volume once, under their hash; a job's own folder is removed when it is done.

    Raises: UserError and TryAgainError of `JobRunner.run`.
    """
    volume, data = project_root() / "jobs", Prepared.load(prepared).sha256
    asked = sha256_lines([*(f"{name}={text}" for name, text in sorted(texts.items())), code, data])
    name = f"segops-{texts['candidate'].replace('_', '-')[:40].strip('-')}-{asked[:_DIGITS]}"
    folder = volume / name
    request = TrainRequest(
        **texts,
        prepared=_shared(prepared, volume / "prepared" / data[:_DIGITS]),
        tuned=folder / "tuned",
        model=folder / "model",
        environment={key: os.environ[key] for key in _PASSED_ON if key in os.environ},
    )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(tuned, request.tuned, dirs_exist_ok=True)
    request.save(folder)
    (runner or JobRunner()).run(
        name,
        on.train,
        on.profiles[on.train_profile],
        image=on.train_image,
        folder=str(folder),
        hours=on.timeout_hours,
    )
    with output_folder(model) as output:
        shutil.copytree(request.model, output, dirs_exist_ok=True)
    shutil.rmtree(folder)
    return TrainedModel.load(model)


def _shared(prepared: Path, copy: Path) -> Path:
    """Copy prepared data to the volume, unless equal data are there; two steps at once copy once."""
    with hold(copy.with_name(f"{copy.name}.lock")):
        if not copy.is_dir():
            with output_folder(copy) as folder:
                shutil.copytree(prepared, folder, dirs_exist_ok=True)
    return copy
