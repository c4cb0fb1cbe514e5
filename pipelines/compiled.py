"""A pipeline as the YAML that Kubeflow takes."""

from __future__ import annotations

from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.catalogue import PIPELINES
from segops.params.project import Params


def compile_pipeline(params: Params, pipeline: str = "training") -> str:
    """Two YAML documents: the pipeline's specification, and what Kubernetes adds to it.

    Without kfp's comment at the top: it shows defaults in the order of a hash map, another one in each installation.
    """
    from kfp import compiler

    with TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[pipeline].build(params), str(path))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(dropwhile(lambda line: line.startswith("#"), lines))
