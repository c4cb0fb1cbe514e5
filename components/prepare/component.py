from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def prepare(
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Artifact],
    prepared: dsl.Output[dsl.Dataset],
) -> None:
    """Decode a dataset once into arrays of native size that later steps map into memory.

    Args:
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        split: What split wrote.
        prepared: images.bin, masks.bin, index.parquet and prepared.json.
    """
    from pathlib import Path

    from segops.kubeflow import facts, one_line_errors
    from segops.stages.prepare import prepare as stage

    with one_line_errors():
        result = stage(dataset=Path(dataset.path), split=Path(split.path), prepared=Path(prepared.path))
    prepared.metadata.update(facts(result, "images", "protocol", "test_sha256", "images_sha256", "masks_sha256"))
