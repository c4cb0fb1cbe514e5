from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def ingest_part(
    number: int,
    parts: int,
    params: str,
    data: str,
    code: str,  # noqa: ARG001
    part: dsl.Output[dsl.Artifact],
) -> None:
    """Read and encode a range of a source's examples: a part of what ingest does.

    Args:
        number: Of the part, from 0 on.
        parts: How many there are.
        params: The section `ingest` of params.yaml, as text.
        data: Names the state of the source, from source_state, for the cache.
        code: Names the code, for the same reason.
        part: The range's encoded examples, their figures, and the faults of its files.
    """
    from pathlib import Path

    from segops.commands.states import ingest_key, require_unchanged
    from segops.data.parallel import Part
    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.ingest import IngestParams
    from segops.stages.ingest import ingest_part as stage

    settings = section(IngestParams, params)
    with one_line_errors():
        result = stage(settings, folder=Path(part.path), part=Part(int(number), int(parts)))
        require_unchanged(data, ingest_key(settings), "ingest.source")
    part.metadata.update(facts(result, "number", "parts", "work"))
