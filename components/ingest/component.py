from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def ingest(params: str, data: str, code: str, dataset: dsl.Output[dsl.Dataset]) -> None:  # noqa: ARG001
    """Read a source of raw images and masks and write a dataset of examples.

    Args:
        params: The section `ingest` of params.yaml, as text.
        data: Names the state of the source, from source_state, so that the cache isn't asked for another state's
            dataset.
        code: Names the code, for the same reason.
        dataset: Manifest, facts and shards.
    """
    from pathlib import Path

    from segops.commands.states import ingest_key, require_unchanged
    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.ingest import IngestParams
    from segops.stages.ingest import ingest as stage

    settings = section(IngestParams, params)
    with one_line_errors():
        result = stage(settings, dataset=Path(dataset.path))
        require_unchanged(data, ingest_key(settings), "ingest.source")
    dataset.metadata.update(
        facts(result, "name", "source", "source_revision", "source_sha256", "manifest_sha256", "images", "groups")
    )
