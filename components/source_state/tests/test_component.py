from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.ingest import ingest
from components.source_state import source_state
from segops.commands.states import DONE
from segops.params.compact import as_text
from tests.support.component_steps import refused, run_step
from tests.support.factories import ingest_params, make_pairs
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]


@pytest.fixture(autouse=True)
def _store(file_store: Path) -> None:
    """MLflow's store is asked what was compared before."""


SECTIONS = ("runtime", "validate", "split", "tune", "evaluate", "register", "compare")


def asked(source: Path, data: str = "") -> str:
    given = dict.fromkeys(SECTIONS, "{}") | {"tracking": as_text(own_names()), "candidates": [{"candidate": "a"}]}
    ingest = as_text(ingest_params(str(source)))
    state = source_state.python_func(ingest=ingest, data=data, code="c", images="i", **given)
    assert state.Output != DONE
    return str(state.source)


def test_the_key_changes_with_the_source_alone(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "raw", n=2)
    first = asked(source)
    assert first.startswith("state-")
    assert asked(source) == first
    image = next((source / "images").iterdir())
    os.utime(image, ns=(1, 1))
    second = asked(source)
    assert second != first
    image.rename(image.with_name("other.png"))
    assert asked(source) not in (first, second)


def test_a_key_that_a_person_gave_stays(tmp_path: Path) -> None:
    assert asked(tmp_path / "none.zip", data="march") == "march"


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with refused(r"^segops: ingest\.source: .*none\.zip: no such file or folder"):
        asked(tmp_path / "none.zip")


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    source = make_pairs(tmp_path / "raw", n=2)
    params, key = as_text(ingest_params(str(source))), asked(source)
    run_step(ingest, tmp_path / "same", params=params, data=key, code="")
    os.utime(next((source / "images").iterdir()), ns=(1, 1))
    with refused(r"^segops: ingest\.source changed while it was read; submit the run again"):
        run_step(ingest, tmp_path / "changed", params=params, data=key, code="")
