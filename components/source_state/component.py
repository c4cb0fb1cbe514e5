from typing import NamedTuple

from components.step import TRAIN_IMAGE, step


class State(NamedTuple):
    source: str
    Output: str  # kfp's local runner finds an output in a condition by this name alone


@step(TRAIN_IMAGE)
def source_state(
    data: str,
    code: str,
    images: str,
    runtime: str,
    tracking: str,
    ingest: str,
    validate: str,
    split: str,
    tune: str,
    candidates: list,  # type: ignore[type-arg]
    evaluate: str,
    register: str,
    compare: str,
) -> State:
    """Ask what state the source of raw files is in, and whether all that a run would make of it is there already.

    Args:
        data: A key that a person gave, which is passed on in its place; empty for none.
        code: Names the code.
        images: Name the steps' images.
        runtime: The section `runtime` of params.yaml, as text, as the other sections are.
        tracking: Its section `tracking`.
        ingest: Its section `ingest`.
        validate: Its section `validate`.
        split: Its section `split`.
        tune: Its section `tune`.
        candidates: Each candidate's name and its entry in params.yaml as text, the loop's items.
        evaluate: Its section `evaluate`.
        register: Its section `register`.
        compare: Its section `compare`.
        source: The key by which later steps are found in the cache.
        Output: Names all that the run reads; `done` where MLflow holds all that it would leave there.
    """
    arguments = dict(locals())
    from segops.commands.states import ingest_key, training_work
    from segops.kubeflow import one_line_errors, section
    from segops.params.ingest import IngestParams
    from segops.params.tracking import TrackingParams

    with one_line_errors():
        key = data or ingest_key(section(IngestParams, ingest))
        work = training_work(
            key, arguments, [item["candidate"] for item in candidates], section(TrackingParams, tracking)
        )
    return State(key, work)
