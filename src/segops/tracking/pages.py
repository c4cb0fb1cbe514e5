"""Where a project's pages in MLflow are, and what they say of its registered model: links, notes, aliases in the table.

Addresses are those of MLflow's UI 3.17, from the `#` on, so that they work at any server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from segops.params.tracking import TrackingParams
from segops.tracking import registry, store
from segops.tracking.comparison import ARTIFACT
from segops.tracking.runs import ALIAS_TAG, KEY_TAG
from segops.tracking.saved_view import view_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOTE_TAG = "mlflow.note.content"
_OPEN, _CLOSE = "<!-- segops writes from here -->", "<!-- to here -->"


class Links(NamedTuple):
    """Holds the places of a project's pages; None: there is no such page yet."""

    runs: str
    charts: str
    model: str | None
    comparison: str | None


def links(client: MlflowClient, tracking: TrackingParams) -> Links | None:
    """Find the pages of the candidates that were judged last; None while there is no candidate's run."""
    experiment_id = store.find_experiment(client, tracking.experiment)
    if experiment_id is None:
        return None
    newest = client.search_runs(
        [experiment_id],
        f"tags.test_sha256 LIKE '%' and tags.`{KEY_TAG}` LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return links_of(client, tracking, newest[0]) if newest else None


def links_of(client: MlflowClient, tracking: TrackingParams, run: Run) -> Links:
    """Return the pages of the candidates that share a run's test set."""
    experiment_id, test_sha256 = run.info.experiment_id, run.data.tags["test_sha256"]
    named = f"tags.test_sha256 = '{test_sha256}' and tags.decision LIKE '%'"
    compared = client.search_runs([experiment_id], named, order_by=["metrics.`val/native_dice` DESC"], max_results=1)
    return Links(
        runs=view_path(experiment_id, test_sha256),
        charts=view_path(experiment_id, test_sha256, charts=True),
        model=f"#/models/{quote(tracking.model_name, safe='')}" if _has_model(client, tracking) else None,
        comparison=artifact_path(compared[0], ARTIFACT) if compared else None,
    )


def artifact_path(run: Run, path: str) -> str:
    """Return the place of a run's artifact."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/{path}"


def _has_model(client: MlflowClient, tracking: TrackingParams) -> bool:
    return bool(client.search_registered_models(f"name = '{tracking.model_name}'", max_results=1))


def keep_note(client: MlflowClient, experiment_id: str, note: str, *, renew: bool) -> None:
    """Write our part of the experiment's note, and leave what people wrote around it; an equal note stays as it is.

    Args:
        renew: replace a note of ours. `compare` does, which knows the decision; `register` writes the first alone.
    """
    held = client.get_experiment(experiment_id).tags.get(NOTE_TAG, "")
    if _OPEN in held and not renew:
        return
    before, opened, rest = held.partition(_OPEN)
    after = rest.partition(_CLOSE)[2] if opened else ""
    whole = "\n\n".join(filter(None, [before.strip(), f"{_OPEN}\n\n{note.strip()}\n\n{_CLOSE}", after.strip()]))
    if whole != held:
        client.set_experiment_tag(experiment_id, NOTE_TAG, whole)


def keep_model_note(client: MlflowClient, name: str, note: str) -> None:
    """Describe the registered model, unless there is none, it says this already, or a person described it."""
    found = client.search_registered_models(f"name = '{name}'", max_results=1)
    held = (found[0].description or "") if found else note
    if held != note and (not held or held.startswith(registry.DESCRIPTION)):
        client.update_registered_model(name, note)


def show_aliases(client: MlflowClient, tracking: TrackingParams) -> None:
    """Tag the runs of versions with the aliases that these hold now, for the table of runs, and no others."""
    experiment_id = store.find_experiment(client, tracking.experiment)
    if experiment_id is None:
        return
    aliases: dict[str, list[str]] = {}
    held_now = registry.state(client, tracking.model_name).aliases
    for alias, version in sorted(held_now.items(), key=lambda item: (item[0] != registry.CHAMPION, item[0])):
        if run_id := client.get_model_version(tracking.model_name, str(version)).run_id:
            aliases.setdefault(run_id, []).append(alias)
    for run in client.search_runs([experiment_id], f"tags.`{ALIAS_TAG}` LIKE '%'"):
        held = aliases.pop(run.info.run_id, None)
        if held is None:
            client.delete_tag(run.info.run_id, ALIAS_TAG)
        elif run.data.tags[ALIAS_TAG] != ", ".join(held):
            client.set_tag(run.info.run_id, ALIAS_TAG, ", ".join(held))
    for run_id, held in aliases.items():
        client.set_tag(run_id, ALIAS_TAG, ", ".join(held))
