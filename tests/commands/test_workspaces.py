"""Two teams at one real MLflow server with workspaces: each works alone, under the rights of the overlay `team`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from segops.commands.history import history
from segops.commands.promote import promote
from segops.errors import UserError
from segops.params.compare import CompareParams
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.compare import compare
from segops.stages.register import register
from segops.tracking import registry, store
from tests.support.judged_candidates import add_version, folders, write_candidate
from tests.support.mlflow_server import MlflowServer
from tests.support.team_workspaces import TEAMS, workspaces_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The name of the model that the overlay lets steps write: both teams have it.
GATE, RUNTIME = PromoteParams(min_groups=2, min_subgroup_images=2), RuntimeParams(threads=1, device="cpu")
TRACKING = TrackingParams(experiment="synthetic-nuclei", model_name="synthetic-nuclei", patience_s=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    pytest.importorskip("mlflow_kubernetes_plugins")  # its package says Python 3.12
    with workspaces_server(tmp_path_factory.mktemp("workspaces")) as running:
        yield running


@contextmanager
def as_(role: str, team: str, server: MlflowServer, workspace: str | None = None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("MLFLOW_TRACKING_TOKEN", f"{team}:{role}")
        patch.setenv("MLFLOW_WORKSPACE", workspace or team)
        patch.setenv("DVC_ROOT", str(server.folder))
        yield


def champion(root: Path, team: str, server: MlflowServer, dice: float) -> float:
    """Register two candidates and compare them as a step, promote the worse as a promoter, and return its test Dice."""
    places = folders(root)
    with as_("steps", team, server):
        for name, dices in {"first": [dice] * 4, "second": [0.9] * 4}.items():
            write_candidate(root, name, val=dices, test=dices)
            register(RegisterParams(), TRACKING, model=places.models / name, report=places.reports / name)
        compared = compare(
            CompareParams(), TRACKING, ["first", "second"],
            reports=places.reports, models=places.models, comparison=places.comparison,
        )  # fmt: skip
        assert compared.challenger == "second"
    with as_("promoter", team, server):
        promote("1", GATE, RUNTIME, TRACKING, confirm=lambda _: True)
    with as_("reader", team, server):
        (entry,) = history(TRACKING).entries
        assert entry.settled
        assert registry.alias(store.client(), TRACKING.model_name, registry.CHAMPION) == 1
        return float(json.loads(entry.line)["checks"][0]["value"])


def test_two_teams_register_and_promote_under_the_same_names(server: MlflowServer, tmp_path: Path) -> None:
    dices = {"team-a": 0.8, "team-b": 0.7}
    assert {team: champion(tmp_path / team, team, server, dices[team]) for team in TEAMS} == pytest.approx(dices)


def test_a_connection_that_carried_a_teams_upload_serves_the_next_team_in_its_own_workspace(
    server: MlflowServer,
) -> None:
    """As behind an ingress, which sends many people's requests by one connection."""
    with requests.Session() as connection:

        def ask(team: str, method: str, path: str, **given: Any) -> requests.Response:
            headers = {"Authorization": f"Bearer {team}:promoter", "X-MLFLOW-WORKSPACE": team}
            return connection.request(method, f"{server.uri}/api/2.0/{path}", headers=headers, timeout=60, **given)

        made = {team: ask(team, "POST", "mlflow/experiments/create", json={"name": f"of-{team}"}) for team in TEAMS}
        first, second = TEAMS
        artifacts = f"mlflow-artifacts/artifacts/workspaces/{first}/{made[first].json()['experiment_id']}"
        uploaded = ask(first, "PUT", f"{artifacts}/large.bin", data=bytes(2**20))
        seen = ask(second, "GET", "mlflow/experiments/get-by-name", params={"experiment_name": f"of-{second}"})
    assert (uploaded.status_code, seen.status_code) == (200, 200), seen.text


def test_another_teams_workspace_refuses_a_token_in_a_line(server: MlflowServer) -> None:
    refused = pytest.raises(UserError, match=r"answers 403 Forbidden \(Permission denied .*\); this account lacks the")
    with as_("promoter", "team-a", server, workspace="team-b"), refused:
        history(TRACKING)


def test_a_step_promotes_nothing_and_a_reader_writes_nothing(server: MlflowServer, tmp_path: Path) -> None:
    with as_("steps", "team-a", server), pytest.raises(UserError, match="answers 403 Forbidden"):
        promote("2", GATE, RUNTIME, TRACKING, confirm=lambda _: True)
    with as_("reader", "team-a", server), pytest.raises(UserError, match="answers 403 Forbidden"), store.answering():
        add_version(tmp_path, TRACKING, "third", test=[0.5] * 4)
    with as_("reader", "team-a", server):
        assert registry.alias(store.client(), TRACKING.model_name, registry.CHAMPION) == 1


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"MLFLOW_WORKSPACE": ""}, "keeps teams apart; set MLFLOW_WORKSPACE to your team's workspace"),
        ({"MLFLOW_WORKSPACE": "team-c"}, "Workspace 'team-c' not found in the Kubernetes cluster"),
        ({"MLFLOW_TRACKING_TOKEN": ""}, "answers 401 Unauthorized (Missing Authorization header or X-Forwarded-Access"),
    ],
)
def test_a_client_without_workspace_or_token_gets_a_line(
    server: MlflowServer, changed: dict[str, str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_("reader", "team-a", server):
        for name, value in changed.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError) as error:
            history(TRACKING)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
