"""What a comparison left in MLflow, and when it lets an equal run end at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from segops.commands.states import DONE, training_work
from segops.params.compare import CompareParams
from segops.params.tracking import TrackingParams
from segops.stages.compare import compare
from segops.tracking import registry, store
from tests.support.judged_candidates import add_version, folders, write_registration
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

NAMES = ["a", "b"]
GIVEN: dict[str, object] = {"code": "c", "candidates": NAMES}


@pytest.fixture
def compared(file_store: Path, tmp_path: Path) -> TrackingParams:
    """The names of a store in which two registered candidates were compared for `GIVEN`; b leads."""
    tracking, places = own_names(), folders(tmp_path)
    for name, dice in zip(NAMES, (0.7, 0.8), strict=True):
        write_registration(tmp_path, tracking, name, add_version(tmp_path, tracking, name, val=[dice] * 4))
    work = training_work("source", GIVEN, NAMES, tracking)
    outputs = {"reports": places.reports, "models": places.models, "comparison": places.comparison}
    compare(CompareParams(), tracking, NAMES, **outputs, work=work)
    return tracking


def test_equal_work_is_done_and_the_line_says_by_what(
    compared: TrackingParams, capsys: pytest.CaptureFixture[str]
) -> None:
    assert training_work("source", GIVEN, NAMES, compared) == DONE
    assert "nothing to do: the source, the params and the code are those that were compared before: " in (
        said := capsys.readouterr().err
    )
    assert "a is version 1, b is version 2" in said


@pytest.mark.parametrize(
    ("source", "given", "names"),
    [
        ("other", GIVEN, NAMES),
        ("source", GIVEN | {"code": "d"}, NAMES),
        ("source", GIVEN | {"compare": "bootstrap: 99"}, NAMES),
        ("source", GIVEN, [*NAMES, "c"]),
    ],
)
def test_another_source_other_params_or_code_and_another_candidate_are_work(
    compared: TrackingParams, source: str, given: dict[str, object], names: list[str]
) -> None:
    assert training_work(source, given, names, compared) != DONE


def _delete_version(client: MlflowClient, tracking: TrackingParams) -> None:
    client.delete_model_version(tracking.model_name, "1")


def _move_alias(client: MlflowClient, tracking: TrackingParams) -> None:
    registry.set_alias(client, tracking.model_name, registry.CHALLENGER, 1)


def _delete_run(client: MlflowClient, tracking: TrackingParams) -> None:
    experiment = store.experiment_id(client, tracking.experiment)
    client.delete_run(client.search_runs([experiment])[0].info.run_id)


@pytest.mark.parametrize("damage", [_delete_version, _move_alias, _delete_run])
def test_what_is_gone_or_moved_since_is_work_again(
    compared: TrackingParams, damage: Callable[[MlflowClient, TrackingParams], None]
) -> None:
    damage(store.client(), compared)
    assert training_work("source", GIVEN, NAMES, compared) != DONE
