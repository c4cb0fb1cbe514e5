"""A pipeline's step in this process: its component's function on artifacts that stand in a folder."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl.types.artifact_types import _SCHEMA_TITLE_TO_TYPE


def run_step(component: Any, folder: Path, **given: Any) -> dict[str, Any]:
    """Call a component; returns its output artifacts by name, each with a path below `folder`.

    Args:
        given: its inputs; a path, or a list of them, becomes an artifact, or a list.
    """
    outputs = {}
    for name, spec in (component.component_spec.outputs or {}).items():
        kind = _SCHEMA_TITLE_TO_TYPE[spec.type.partition("@")[0]]
        outputs[name] = kind(name=name, uri=str(folder / name), metadata={})
    component.python_func(**{name: _input(name, value) for name, value in given.items()}, **outputs)
    return outputs


def _input(name: str, value: Any) -> Any:
    if isinstance(value, Path):
        return dsl.Artifact(name=name, uri=str(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_input(name, one) for one in value]
    return value


@contextmanager
def refused(said: str) -> Iterator[None]:
    """A step that ends with exit code 1; the last line on stderr, which `said` matches, is the reason."""
    stderr = io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stderr(stderr):
        yield
    assert ended.value.code == 1
    assert re.search(said, stderr.getvalue().splitlines()[-1])
