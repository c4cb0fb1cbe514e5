"""Makes the keys that a pipeline's cache is asked by: what the data and the model are when a run starts.

A schedule's runs have equal arguments, so that the cache would give the first run's outputs for ever.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from segops import files
from segops.data.sources.states import source_state
from segops.errors import UserError
from segops.params.batch import BatchParams
from segops.params.ingest import IngestParams
from segops.params.tracking import TrackingParams
from segops.progress import say

_KEY = "state-"  # a key without it was given by a person, and is never checked
NOTHING_TO_DO = "nothing to do: "  # begins the line that says why; who follows a run finds the line by it
DONE = "done"  # in place of the name of work that has nothing left to do


def ingest_key(params: IngestParams) -> str:
    """Name the present state of what `ingest` reads: its source, and its base."""
    states = [source_state(params.source, param="ingest.source", sha256=params.sha256)]
    if params.base is not None:
        states.append(source_state(params.base, param="ingest.base"))
    return _key("ingest.source", states)


def batch_key(params: BatchParams, tracking: TrackingParams) -> str:
    """Name the present state of what a batch reads: its images, and the version that its model's name means.

    Raises: UserError: no source, no such version. TryAgainError: MLflow is away.
    """
    if params.source is None:
        raise UserError("batch.source isn't set; name the images in params.yaml, or with --set batch.source=s3://..")
    model = f"model {_model_state(params.model, tracking)}"
    return _key("batch.source", [source_state(params.source, param="batch.source", sha256=params.sha256), model])


def training_work(source: str, arguments: Mapping[str, object], candidates: list[str], tracking: TrackingParams) -> str:
    """Name all that a training run reads; return DONE, and say so, where MLflow holds all that it would leave there.

    Args:
        source: the key of the source's state.
        arguments: the run's arguments by name, its code and images too.

    Raises: TryAgainError: MLflow is away.
    """
    from segops.tracking import store
    from segops.tracking.compared import done_before

    work = files.sha256_lines([source, json.dumps(arguments, sort_keys=True)])[:32]
    client = store.client(tracking)
    with store.answering():
        before = done_before(client, tracking, work, candidates)
    if before is None:
        return work
    say(f"{NOTHING_TO_DO}the source, the params and the code are those that were {before}")
    return DONE


def require_unchanged(before: str, present: str, param: str) -> None:
    """Refuse outputs whose inputs changed meanwhile: the cache would give them for another state.

    Raises: UserError naming the param.
    """
    if before.startswith(_KEY) and before != present:
        raise UserError(f"{param} changed while it was read; submit the run again, when nobody writes to it")


def _model_state(model: str, tracking: TrackingParams) -> str:
    """Name a version by its number and weights, a folder by its listing."""
    if Path(model).is_dir() or os.sep in model:
        return source_state(model, param="batch.model")
    from segops.tracking import registry, store

    client = store.client(tracking)
    with store.answering():
        version = registry.resolve(client, tracking.model_name, model)
    return f"version {version.version} {version.tags.get('weights_sha256')}"


def _key(param: str, states: list[str]) -> str:
    """Print the states of what a param names, and hash them to a key."""
    say(f"{param}: {', '.join(states)}")
    return f"{_KEY}{files.sha256_lines(states)[:32]}"
