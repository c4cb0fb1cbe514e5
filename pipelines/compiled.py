"""A pipeline as the YAML that Kubeflow takes."""

from __future__ import annotations

import ast
import re
from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from pipelines.catalogue import PIPELINES
from segops.params.project import Params

_UNUSED = ("import kfp", "from kfp.dsl import *")  # of kfp's own lines above a component's source; ours name dsl


def compile_pipeline(params: Params, pipeline: str = "training") -> str:
    """Two YAML documents: the pipeline's specification, and what Kubernetes adds to it.

    Without kfp's comment at the top: it shows defaults in the order of a hash map, another one in each installation.
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
    """Leave out the words for people: the components' READMEs have them, and Kubeflow keeps them eight times a step."""
    for component in spec["components"].values():
        definitions = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        for kind in [kind for definition in definitions for kind in definition.values()]:
            for value in kind.values():
                value.pop("description", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        command = executor["container"]["command"]
        command[:] = [re.sub(r" {2,}", " ", part) for part in command[:-1]] + [_short_source(command[-1])]


def _short_source(source: str) -> str:
    """A component's source without its function's docstring, comments for tools and empty lines, indented by 1."""
    (function,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    docstring, lines = function.body[0], source.splitlines()
    assert isinstance(docstring, ast.Expr)
    assert docstring.end_lineno is not None
    kept = lines[: docstring.lineno - 1] + lines[docstring.end_lineno :]
    assert '"""' not in "".join(kept)  # whose indentation would be content
    code = (re.sub(r"\s+# noqa.*$", "", line) for line in kept if line.strip())
    code = (line for line in code if line not in _UNUSED)
    return "".join(f"{' ' * ((len(line) - len(line.lstrip())) // 4)}{line.lstrip()}\n" for line in code)
