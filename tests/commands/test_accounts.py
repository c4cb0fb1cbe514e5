"""Three roles at a real MLflow server with accounts: who may send which request, and what each sees of `segops`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from segops.commands.history import history
from segops.commands.promote import promote
from segops.errors import UserError
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.register import register
from segops.tracking import promoted, registry, store
from tests.support.judged_candidates import add_version, folders, write_candidate
from tests.support.mlflow_accounts import PASSWORD, accounts_server, signed_in
from tests.support.mlflow_server import own_names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROMOTE = PromoteParams(min_groups=2, min_subgroup_images=2)
RUNTIME = RuntimeParams(threads=1, device="cpu")


@dataclass
class World:
    """A server, and what stands in it: two versions, the first one promoted by a decision."""

    uri: str
    tracking: TrackingParams
    names: dict[str, str]

    def send(self, who: str, method: str, path: str, **given: Any) -> requests.Response:
        """A request as curl sends it; `{model}` and others stand for what is in `names`."""
        body = {name: self.filled(value) for name, value in given.items()}
        url = self.uri + self.filled(path)
        return requests.request(method, url, json=body or None, auth=(who, PASSWORD), timeout=60)

    def filled(self, value: Any) -> Any:
        """With ids in place of their names; a query of GraphQL keeps its braces."""
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if not isinstance(value, str):
            return value
        for name, known in self.names.items():
            value = value.replace(f"{{{name}}}", known)
        return value


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("accounts")
    server, tracking = accounts_server(folder), own_names()
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("DVC_ROOT", str(folder))
        with signed_in("pipeline"):
            first = add_version(folder, tracking, "first", test=[0.8] * 4)
            second = add_version(folder, tracking, "second", test=[0.9] * 4)
            experiment = store.experiment_id(store.client(), tracking.experiment)
            registry.set_alias(store.client(), tracking.model_name, registry.CHALLENGER, second)
        with signed_in("promoter"):
            promote(str(first), PROMOTE, RUNTIME, tracking, confirm=lambda _: True)
            client = store.client()
            decisions = store.experiment_id(client, f"{tracking.experiment}-decisions")
            [entry] = client.search_runs([decisions])
        names = {
            "model": tracking.model_name, "first": str(first), "second": str(second), "entry": entry.info.run_id,
            "experiment": experiment, "decisions": decisions, "ledger": f"{tracking.experiment}-decisions",
            "other": f"{tracking.experiment}-other-decisions",
        }  # fmt: skip
        yield World(server.uri, tracking, names)
    server.stop()


API, AJAX, API3 = "/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/3.0/mlflow"
ALIAS = {"name": "{model}", "alias": "champion", "version": "{second}"}
# Requests that nobody but the administrator may send, and requests that some may: (who may, method, path, body).
NOBODY: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/runs/set-tag", {"run_id": "{entry}", "key": "segops.decision.000", "value": "forged"}),
    ("POST", f"{AJAX}/runs/set-tag", {"run_uuid": "{entry}", "key": "segops.decision.000", "value": "forged"}),
    ("POST", f"{API}/runs/delete-tag", {"run_id": "{entry}", "key": "segops.decision.000"}),
    ("POST", f"{API}/runs/update", {"run_id": "{entry}", "status": "FAILED"}),
    ("POST", f"{API}/runs/delete", {"run_id": "{entry}"}),
    ("POST", f"{API}/runs/log-batch", {"run_id": "{entry}", "tags": [{"key": "a", "value": "b"}]}),
    ("POST", f"{API}/experiments/delete", {"experiment_id": "{decisions}"}),
    ("POST", f"{API}/experiments/update", {"experiment_id": "{decisions}", "new_name": "elsewhere"}),
    ("POST", f"{API}/webhooks", {"name": "w", "url": "https://example.org", "events": []}),
    ("PATCH", f"{API}/users/update-admin", {"username": "pipeline", "is_admin": True}),
    ("POST", f"{API3}/roles/assign", {"username": "pipeline", "role_id": 1}),
    ("POST", f"{API3}/roles/permissions/add", {"role_id": 1, "resource_type": "experiment", "resource_pattern": "*",
                                               "permission": "MANAGE"}),
]  # fmt: skip
PROMOTERS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/registered-models/alias", ALIAS),
    ("POST", f"{AJAX}/registered-models/alias", ALIAS),
    ("POST", f"{API}/registered-models/alias", ALIAS | {"alias": "Champion"}),
    ("DELETE", f"{API}/registered-models/alias", {"name": "{model}", "alias": "Champion"}),
    ("POST", f"{API}/registered-models/alias", ALIAS | {"version": "{first}"}),
    ("POST", f"{API}/experiments/create", {"name": "{other}"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "{decisions}"}),
    ("POST", f"{API}/registered-models/set-tag", {"name": "{model}", "key": "team", "value": "a"}),
]
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", f"{API}/registered-models/alias", ALIAS | {"alias": "challenger"}),
    ("POST", f"{API}/runs/create", {"experiment_id": "{experiment}"}),
    ("POST", f"{API}/model-versions/set-tag", {"name": "{model}", "version": "{second}", "key": "a", "value": "b"}),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/{experiment}/note.txt", {"a": "b"}),
]
READERS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", API + "/registered-models/get?name={model}", {}),
    ("GET", API + "/registered-models/alias?name={model}&alias=champion", {}),
    ("POST", f"{API}/runs/search", {"experiment_ids": ["{decisions}"]}),
    ("POST", "/graphql", {"query": "{__typename}", "operationName": None}),
    ("GET", "/", {}),
]
ROLES = ("serve", "pipeline", "promoter")


def _sent(world: World, who: str, request: tuple[str, str, dict[str, Any]]) -> int:
    method, path, body = request
    return int(world.send(who, method, path, **body).status_code)


@pytest.mark.parametrize(
    ("requests_of", "may"),
    [(NOBODY, ()), (PROMOTERS, ("promoter",)), (STEPS, ("pipeline", "promoter")), (READERS, ROLES)],
    ids=["nobody", "promoters", "steps", "readers"],
)
def test_each_role_may_do_its_part_and_no_more(
    world: World, requests_of: list[tuple[str, str, dict[str, Any]]], may: tuple[str, ...]
) -> None:
    for request in requests_of:
        for who in ROLES:
            status = _sent(world, who, request)
            assert (status == 200) if who in may else (status == 403), (who, request, status)


def test_a_step_neither_removes_the_champion_nor_takes_its_name_away(world: World) -> None:
    for method, path, body in (
        ("DELETE", f"{API}/model-versions/delete", {"name": "{model}", "version": "{first}"}),
        ("DELETE", f"{API}/registered-models/delete", {"name": "{model}"}),
        ("POST", f"{API}/registered-models/rename", {"name": "{model}", "new_name": "other"}),
        ("POST", f"{API}/experiments/update", {"experiment_id": "{experiment}", "new_name": "{other}"}),
    ):
        answer = world.send("pipeline", method, path, **body)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), body
        assert answer.json()["message"].startswith("account 'pipeline' may not do this: ")


def test_nobody_comes_in_without_a_password_or_with_a_wrong_one(world: World) -> None:
    for auth in (None, ("promoter", "wrong-password")):
        url = f"{world.uri}{API}/registered-models/alias"
        assert requests.post(url, json=ALIAS, auth=auth, timeout=60).status_code == 401


def test_passwords_are_not_tried_by_the_thousand(world: World) -> None:
    """After five wrong ones there is a pause for this account, a second at first; a right one ends it."""
    url = f"{world.uri}{API}/registered-models/search"
    wrong = [requests.get(url, auth=("watch", f"wrong-{number}"), timeout=60) for number in range(6)]
    assert [answer.status_code for answer in wrong] == [401] * 5 + [429]
    assert wrong[-1].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert requests.get(url, auth=("serve", PASSWORD), timeout=60).status_code == 200
    time.sleep(int(wrong[-1].headers["Retry-After"]) + 0.1)
    assert [requests.get(url, auth=("watch", PASSWORD), timeout=60).status_code for _ in range(2)] == [200, 200]


def test_steps_register_promoters_promote_and_serving_reads(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.uri)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_candidate(tmp_path, "third", test=[0.95] * 4)
    places = folders(tmp_path)
    with signed_in("pipeline"):
        made = register(
            RegisterParams(), world.tracking, model=places.models / "third", report=places.reports / "third"
        )
        with pytest.raises(UserError, match=r"answers 403 Forbidden \(account 'pipeline' may not .* for decisions"):
            promote(str(made.version), PROMOTE, RUNTIME, world.tracking, confirm=lambda _: True)
    before = len(_history_as("serve", world))
    with signed_in("promoter"):
        decision = promote(str(made.version), PROMOTE, RUNTIME, world.tracking, confirm=lambda _: True)
    assert decision.to_version == made.version
    assert len(_history_as("serve", world)) == before + 1
    with signed_in("serve"):
        fetched = promoted.fetch(world.tracking, "champion", tmp_path / "fetched")
        assert fetched.version == made.version
        with pytest.raises(UserError, match="account 'serve' may not do this: it reads only"):
            promote(str(world.names["first"]), PROMOTE, RUNTIME, world.tracking, confirm=lambda _: True)
        with pytest.raises(UserError, match="account 'serve' may not do this: it reads only"):
            register(RegisterParams(), world.tracking, model=places.models / "third", report=places.reports / "third")


def _history_as(who: str, world: World) -> list[str]:
    with signed_in(who):
        return history(world.tracking).lines
