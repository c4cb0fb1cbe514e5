"""The pipeline as the YAML that Kubeflow takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.training_pipeline import training_pipeline
from segops.params import Params


def compile_pipeline(params: Params) -> str:
    """Two YAML documents: the pipeline's specification, and what Kubernetes adds to it."""
    from kfp import compiler

    with TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(training_pipeline(params), str(path))
        return path.read_text(encoding="utf-8")
