"""The saved view of the candidates: written once, equal for whoever writes it, and never another's."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from segops.tracking import saved_view, store
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

SHA = "0123456789abcdef" * 4
TAG = "mlflow.sharedViewState.candidates-01234567"


def _run(client: Any, experiment_id: str, test_sha256: str | None) -> Any:
    tags = {"dataset": "nuclei", **({"test_sha256": test_sha256} if test_sha256 else {})}
    return client.create_run(experiment_id, tags=tags)


def _views(client: Any, experiment_id: str) -> dict[str, str]:
    tags = client.get_experiment(experiment_id).tags
    return {name: text for name, text in tags.items() if name.startswith("mlflow.sharedViewState.")}


def test_a_view_is_written_once_and_again_only_when_it_is_another(
    file_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.client()
    experiment_id = client.create_experiment(own_names().experiment)
    writes: list[str] = []
    write = client.set_experiment_tag

    def counted(*given: str) -> None:
        writes.append(given[1])
        write(*given)

    monkeypatch.setattr(client, "set_experiment_tag", counted)
    for _ in range(2):
        saved_view.keep_view_of(client, _run(client, experiment_id, SHA))
    assert writes == [TAG]
    packed = json.loads(_views(client, experiment_id)[TAG])
    state = zlib.decompress(base64.b64decode(packed["state"].removeprefix("deflate;")))
    other_zlib = "deflate;" + base64.b64encode(zlib.compress(state, 1)).decode()
    write(experiment_id, TAG, json.dumps({**packed, "state": other_zlib}))
    saved_view.keep_view_of(client, _run(client, experiment_id, SHA))  # the same view, packed elsewhere
    assert writes == [TAG]
    for spoilt in ("", "{", json.dumps({**packed, "name": "mine"}), json.dumps({**packed, "state": "deflate;AAAA"})):
        write(experiment_id, TAG, spoilt)
        saved_view.keep_view_of(client, _run(client, experiment_id, SHA))
    assert writes == [TAG] * 5


def test_each_test_set_has_a_view_of_its_own_and_peoples_views_stay(file_store: Path) -> None:
    client = store.client()
    experiment_id = client.create_experiment(own_names().experiment)
    client.set_experiment_tag(experiment_id, "mlflow.sharedViewState.mine", "whatever")
    for test_sha256 in (SHA, SHA[::-1], None):
        saved_view.keep_view_of(client, _run(client, experiment_id, test_sha256))
    views = _views(client, experiment_id)
    assert set(views) == {TAG, "mlflow.sharedViewState.candidates-fedcba98", "mlflow.sharedViewState.mine"}
    assert views["mlflow.sharedViewState.mine"] == "whatever"
    assert max(map(len, views.values())) < 5000  # what PostgreSQL's column holds


def test_every_card_stands_in_a_section_and_every_name_is_there_once() -> None:
    state = saved_view.view_state(SHA)
    sections = [section["uuid"] for section in state["compareRunSections"]]
    cards = state["compareRunCharts"]
    assert {card["metricSectionId"] for card in cards} <= set(sections)
    assert max(Counter([*sections, *(card["uuid"] for card in cards)]).values()) == 1
    shown = [section["name"] for section in state["compareRunSections"] if section["display"]]
    assert shown[:2] == ["Curves", "Scores and their intervals"]
    assert state["columnOrder"][:2] == ["tags.`validation Dice`", "tags.`test Dice`"]
    assert all(card.get("showRunParams") is False for card in cards if card["type"] == "IMAGE")
