from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def source_state(params: str, data: str) -> str:
    """Ask what state the source of raw files is in: the key by which later steps are found in the cache.

    Args:
        params: The section `ingest` of params.yaml, as text.
        data: A key that a person gave, which is passed on in its place; empty for none.

    Returns:
        The key.
    """
    from segops.kubeflow import one_line_errors, section
    from segops.params.ingest import IngestParams
    from segops.stages.states import ingest_key

    with one_line_errors():
        return data or ingest_key(section(IngestParams, params))
