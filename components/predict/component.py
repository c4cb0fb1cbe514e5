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
    number: int = 0,
    parts: int = 1,
) -> None:
    """Segment a source's images with a registered model; an image that can't be read doesn't stop the others.

    Args:
        params: The section `batch` of params.yaml, as text.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        data: Names the state of the source and the model's version, from batch_state, for the cache.
        code: Names the code, for the same reason.
        number: Of the part of the images that are segmented, from 0 on.
        parts: How many there are.
        masks: Masks under the images' names, and predictions.csv, one row per image.
        summary: How many masks, and which images can't be read, for Kubeflow's viewer.
    """
    from pathlib import Path

    from segops.commands.batch import batch, batch_note
    from segops.commands.states import batch_key, require_unchanged
    from segops.data.parallel import Part
    from segops.kubeflow import one_line_errors, section
    from segops.params.batch import BatchParams
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams

    settings, server = section(BatchParams, params), section(TrackingParams, tracking)
    with one_line_errors():
        part = Part(int(number), int(parts))
        done = batch(settings, section(RuntimeParams, runtime), server, masks=Path(masks.path), part=part)
        require_unchanged(data, batch_key(settings, server), "batch.source or the model")
    bad = sum(image.error is not None for image in done)
    counts = {"part": part.number, "masks": len(done) - bad, "unreadable": bad}
    masks.metadata.update({"source": settings.source, "model": settings.model, **counts})
    Path(summary.path).write_text(batch_note(done, str(settings.source)), encoding="utf-8")
