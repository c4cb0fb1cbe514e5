from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def batch_state(params: str, tracking: str, data: str) -> str:
    """Ask what state a batch's images and its model are in: the key by which its masks are found in the cache.

    Args:
        params: The section `batch` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        data: A key that a person gave, which is passed on in its place; empty for none.

    Returns:
        The key.
    """
    from segops.commands.states import batch_key
    from segops.kubeflow import one_line_errors, section
    from segops.params.batch import BatchParams
    from segops.params.tracking import TrackingParams

    with one_line_errors():
        return data or batch_key(section(BatchParams, params), section(TrackingParams, tracking))
