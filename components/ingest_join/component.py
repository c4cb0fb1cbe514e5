from typing import List  # noqa: UP035 - kfp reads List, not list

from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def ingest_join(
    params: str,
    data: str,  # noqa: ARG001
    code: str,  # noqa: ARG001
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    dataset: dsl.Output[dsl.Dataset],
) -> None:
    """Join the parts of a source that were read by themselves: the bytes are those of the step ingest.

    Args:
        params: The section `ingest` of params.yaml, as text.
        data: Names the state of the source, from source_state, for the cache.
        code: Names the code, for the same reason.
        parts: What each ingest_part wrote, in any order.
        dataset: Manifest, facts and shards.
    """
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.ingest import IngestParams
    from segops.stages.ingest import join_ingested

    with one_line_errors():
        folders = [Path(part.path) for part in parts]
        result = join_ingested(section(IngestParams, params), parts=folders, dataset=Path(dataset.path))
    dataset.metadata.update(
        facts(result, "name", "source", "source_revision", "source_sha256", "manifest_sha256", "images", "groups")
    )
