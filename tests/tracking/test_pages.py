"""MLflow's pages of an experiment: notes that leave people's words alone, aliases in the table of runs, links."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segops.params.tracking import TrackingParams
from segops.tracking import pages, registry, store
from tests.support.judged_candidates import add_version
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]


@pytest.fixture
def experiment(file_store: Path) -> tuple[Any, str]:
    client = store.client()
    return client, client.create_experiment(own_names().experiment)


def _note(client: Any, experiment_id: str) -> str:
    return str(client.get_experiment(experiment_id).tags.get(pages.NOTE_TAG, ""))


def test_a_note_leaves_what_people_wrote_before_and_after_it(experiment: tuple[Any, str]) -> None:
    client, experiment_id = experiment
    client.set_experiment_tag(experiment_id, pages.NOTE_TAG, "Ann: ask before deleting.")
    pages.keep_note(client, experiment_id, "first", renew=False)
    client.set_experiment_tag(experiment_id, pages.NOTE_TAG, _note(client, experiment_id) + "\n\nBen: done.")
    pages.keep_note(client, experiment_id, "second", renew=True)
    words = [line for line in _note(client, experiment_id).splitlines() if line and not line.startswith("<!--")]
    assert words == ["Ann: ask before deleting.", "second", "Ben: done."]


def test_register_writes_the_first_note_and_never_over_a_decision(experiment: tuple[Any, str]) -> None:
    client, experiment_id = experiment
    pages.keep_note(client, experiment_id, "not compared yet", renew=False)
    pages.keep_note(client, experiment_id, "take unet", renew=True)
    pages.keep_note(client, experiment_id, "not compared yet", renew=False)
    assert "take unet" in _note(client, experiment_id)
    assert "not compared" not in _note(client, experiment_id)


def test_an_equal_note_is_not_written_again(experiment: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    client, experiment_id = experiment
    pages.keep_note(client, experiment_id, "take unet", renew=True)
    monkeypatch.setattr(client, "set_experiment_tag", _fails)
    pages.keep_note(client, experiment_id, "take unet", renew=True)


def _fails(*given: Any) -> None:
    raise AssertionError(given)


def test_the_registered_model_is_described_unless_a_person_did(file_store: Path) -> None:
    tracking, client = own_names(), store.client()
    name = tracking.model_name
    pages.keep_model_note(client, name, "no model yet")
    client.create_registered_model(name, description=registry.DESCRIPTION)
    for note in (f"{registry.DESCRIPTION} First.", f"{registry.DESCRIPTION} Second."):
        pages.keep_model_note(client, name, note)
        assert client.get_registered_model(name).description == note
    client.update_registered_model(name, "Ann's.")
    pages.keep_model_note(client, name, registry.DESCRIPTION)
    assert client.get_registered_model(name).description == "Ann's."


def test_the_table_of_runs_shows_the_aliases_as_they_are_now(file_store: Path, tmp_path: Path) -> None:
    tracking, client = own_names(), store.client()
    first, second = (add_version(tmp_path, tracking, name) for name in ("small", "large"))

    def shown() -> dict[str, str | None]:
        pages.show_aliases(client, tracking)
        found = client.search_runs([str(store.find_experiment(client, tracking.experiment))])
        return {run.data.tags["candidate"]: run.data.tags.get("alias") for run in found}

    assert shown() == {"small": None, "large": None}
    registry.set_alias(client, tracking.model_name, registry.CHALLENGER, second)
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, first)
    assert shown() == {"small": "champion", "large": "challenger"}
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, second)
    assert shown() == {"small": None, "large": "champion, challenger"}
    registry.set_alias(client, tracking.model_name, registry.CHAMPION, None)
    registry.set_alias(client, tracking.model_name, registry.CHALLENGER, None)
    assert shown() == {"small": None, "large": None}


def test_links_are_none_before_there_is_a_candidate(file_store: Path) -> None:
    tracking: TrackingParams = own_names()
    assert pages.links(store.client(), tracking) is None
    store.experiment_id(store.client(), tracking.experiment)
    assert pages.links(store.client(), tracking) is None
