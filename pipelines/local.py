"""The whole pipeline on this machine, by kfp's own local runner: each step a process, or a container."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipelines.training_pipeline import arguments, training_pipeline
from segops.errors import UserError
from segops.params import Params

_FAILED = re.compile(r"[Tt]ask \W*([\w-]+)")


def run_local(params: Params, root: Path, *, docker: bool = False) -> Path:
    """Run the pipeline; returns the folder of its steps' outputs.

    Args:
        params: all of params.yaml.
        root: outputs go to a new folder below it.
        docker: each step in a container of its image; otherwise a process of this Python.

    Raises: UserError naming the step that failed; what it printed stands above.
    """
    from kfp import local

    before = set(root.iterdir()) if root.is_dir() else set()
    runner = local.DockerRunner() if docker else local.SubprocessRunner(use_venv=False)
    local.init(runner=runner, pipeline_root=str(root), raise_on_error=True)
    os.environ.setdefault("DVC_ROOT", str(Path.cwd()))
    try:
        training_pipeline(params)(**arguments(params))
    except RuntimeError as error:
        found = _FAILED.search(str(error))
        step = f"step {found[1]}" if found else " ".join(str(error).split())
        raise UserError(f"run-local: {step} failed; its own words stand above") from None
    (made,) = set(root.iterdir()) - before
    return made
