"""Runs a whole pipeline on this machine, by kfp's own local runner: each step a process, or a container."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path

from pipelines.catalogue import PIPELINES
from pipelines.nodes import OF_CANDIDATES
from pipelines.versions import code_version
from segops.commands.states import DONE
from segops.errors import UserError
from segops.params.project import Params

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FAILED = re.compile(r"Inner task failed: '([\w-]+)'")
_ITERATION = re.compile(r"iteration-(\d+)")
_MLFLOW = "MLFLOW_TRACKING_URI"
# What a container receives of this machine's environment; for a cluster `kubeflow` has the names of secrets.
_PASSED_ON = (
    _MLFLOW,
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "SEGOPS_TUNE_STORAGE",
)
_DATABASE = "PG"  # what PostgreSQL's clients read: PGHOST, PGUSER, PGPASSWORD ..


def run_local(params: Params, root: Path, *, docker: bool = False, pipeline: str = "training") -> Path:
    """Run a pipeline; return the folder of its steps' outputs.

    Args:
        params: all of params.yaml.
        root: outputs go to a new folder below it.
        docker: each step in a container of its image, with this machine's network and user; otherwise a process of this
            Python.
        pipeline: its name in the catalogue.

    Raises: UserError naming the step that failed, whose own words are above; --docker without a MLflow server.
    """
    from docker.errors import DockerException
    from kfp import local

    before = set(root.iterdir()) if root.is_dir() else set()
    if docker:
        params = _for_containers(params)
        runner = local.DockerRunner(network_mode="host", user=f"{os.getuid()}:{os.getgid()}")
    else:
        runner = local.SubprocessRunner(use_venv=False)
    local.init(runner=runner, pipeline_root=str(root), raise_on_error=True)
    os.environ.setdefault("DVC_ROOT", str(Path.cwd()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no effect in the current local runner")
            PIPELINES[pipeline].build(params)(**PIPELINES[pipeline].arguments(params), code=code_version())
    except DockerException as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"run-local --docker: {reason}; start the engine, and build what it lacks by `make images`"
        ) from None
    except RuntimeError as error:
        failed = _failed_step(str(error), list(params.candidates))
        raise UserError(f"run-local: {failed}; its own words stand above") from None
    (outputs,) = set(root.iterdir()) - before
    # kfp takes a container that ends at once as done.
    if not _nothing_to_do(outputs) and not (outputs / PIPELINES[pipeline].result).is_file():
        raise UserError(
            f"run-local: {outputs} holds no {PIPELINES[pipeline].result}; a step ended early, its own words stand above"
        )
    return outputs


def _nothing_to_do(outputs: Path) -> bool:
    """Return whether the run's first step saw that all was done before."""
    output = outputs / "source-state" / "executor_output.json"
    return output.is_file() and json.loads(output.read_text(encoding="utf-8"))["parameterValues"]["Output"] == DONE


def _failed_step(text: str, candidates: list[str]) -> str:
    """Return the step that kfp's message names, with its candidate or its part where it is in a loop."""
    plain = _COLOUR.sub("", text)
    step, iteration = _FAILED.search(plain), _ITERATION.search(plain)
    if step is None:
        return " ".join(plain.split())
    if iteration is None:
        return f"step {step[1]} failed"
    number = int(iteration[1])
    of = f"candidate {candidates[number]}" if step[1] in OF_CANDIDATES else f"part {number}"
    return f"step {step[1]} of {of} failed"


def _for_containers(params: Params) -> Params:
    """Return params whose steps know this machine's servers. Raises UserError without an MLflow server."""
    if not os.environ.get(_MLFLOW, "").startswith("http"):
        raise UserError(
            f"run-local --docker: containers share no file; start a server (`make up`) and set {_MLFLOW} to its URL"
        )
    known = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_DATABASE)}
    kubeflow = params.kubeflow.model_copy(update={"environment": {**params.kubeflow.environment, **known}})
    return params.model_copy(update={"kubeflow": kubeflow})
