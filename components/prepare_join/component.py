from typing import List  # noqa: UP035 - kfp reads List, not list

from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def prepare_join(
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Artifact],
    parts: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    prepared: dsl.Output[dsl.Dataset],
) -> None:
    """Join the parts of a dataset that were decoded by themselves: the bytes are those of the step prepare.

    Args:
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        split: What split wrote.
        parts: What each prepare_part wrote, in any order.
        prepared: images.bin, masks.bin, index.parquet and prepared.json.
    """
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors
    from segops.stages.prepare import join_prepared

    with one_line_errors():
        folders = [Path(part.path) for part in parts]
        result = join_prepared(
            dataset=Path(dataset.path), split=Path(split.path), parts=folders, prepared=Path(prepared.path)
        )
    prepared.metadata.update(facts(result, "images", "protocol", "test_sha256", "images_sha256", "masks_sha256"))
