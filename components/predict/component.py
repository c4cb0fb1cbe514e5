from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def predict(
    params: str,
    runtime: str,
    tracking: str,
    data: str,
    code: str,  # noqa: ARG001
    masks: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Segment a source's images with a registered model; an image that can't be read doesn't stop the others.

    Args:
        params: The section `batch` of params.yaml, as text.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        data: Names the state of the source and the model's version, from batch_state, for the cache.
        code: Names the code, for the same reason.
        masks: Masks under the images' names, and predictions.csv, one row per image.
        summary: How many masks, and which images can't be read, for Kubeflow's viewer.
    """
    from pathlib import Path

    from segops.commands.batch import batch, batch_note
    from segops.commands.states import batch_key, require_unchanged
    from segops.kubeflow import one_line_errors, section
    from segops.params.batch import BatchParams
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams

    settings, server = section(BatchParams, params), section(TrackingParams, tracking)
    with one_line_errors():
        done = batch(settings, section(RuntimeParams, runtime), server, masks=Path(masks.path))
        require_unchanged(data, batch_key(settings, server), "batch.source or the model")
    bad = sum(image.error is not None for image in done)
    masks.metadata.update(
        {"source": settings.source, "model": settings.model, "masks": len(done) - bad, "unreadable": bad}
    )
    Path(summary.path).write_text(batch_note(done, str(settings.source)), encoding="utf-8")
