from typing import List  # noqa: UP035 - kfp reads List, not list

from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def predict_join(
    params: str,
    code: str,  # noqa: ARG001
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    masks: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Join the masks of parts of a source's images; the files are those of the step predict.

    Args:
        params: The section `batch` of params.yaml, as text.
        code: Names the code, for the cache.
        parts: What each predict wrote, in any order.
        masks: Masks under the images' names, and predictions.csv, one row per image.
        summary: How many masks, and which images can't be read, for Kubeflow's viewer.
    """
    from pathlib import Path

    from segops.commands.batch import batch_note, join_batch
    from segops.kubeflow import one_line_errors, section
    from segops.params.batch import BatchParams

    settings = section(BatchParams, params)
    with one_line_errors():
        done = join_batch([Path(part.path) for part in parts], settings, masks=Path(masks.path))
    bad = sum(image.error is not None for image in done)
    masks.metadata.update({"source": settings.source, "masks": len(done) - bad, "unreadable": bad})
    Path(summary.path).write_text(batch_note(done, str(settings.source)), encoding="utf-8")
