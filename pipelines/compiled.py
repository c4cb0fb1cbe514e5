"""Compiles a pipeline to the YAML that Kubeflow takes."""

from __future__ import annotations

from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from pipelines.catalogue import PIPELINES
from segops.params.project import Params


def compile_pipeline(params: Params, pipeline: str = "training") -> str:
    """Return two YAML documents: the pipeline's specification, and what Kubernetes adds to it.

    kfp's comment at the top is left out: it shows defaults in the order of a hash map, which each installation has
    its own.
    """
    from kfp import compiler

    with TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(PIPELINES[pipeline].build(params), str(path))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    documents = list(yaml.safe_load_all("".join(dropwhile(lambda line: line.startswith("#"), lines))))
    _shorten(documents[0])
    return yaml.safe_dump_all(documents, sort_keys=True)


def _shorten(spec: dict[str, Any]) -> None:
    """Leave out the words for people: the READMEs have them, and Kubeflow keeps them eight times per step."""
    for component in spec["components"].values():
        definitions = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        for kind in [kind for definition in definitions for kind in definition.values()]:
            for value in kind.values():
                value.pop("description", None)
