from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def prepare_part(
    number: int,
    parts: int,
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    split: dsl.Input[dsl.Artifact],
    part: dsl.Output[dsl.Artifact],
) -> None:
    """Decode a range of a dataset's shards: a part of what prepare does.

    Args:
        number: Of the part, from 0 on.
        parts: How many there are.
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        split: What split wrote.
        part: The range's arrays, and where they are in the whole.
    """
    from pathlib import Path

    from segops.data.parallel import Part
    from segops.kubeflow import facts, one_line_errors
    from segops.stages.prepare import prepare_part as stage

    share = Part(int(number), int(parts))
    with one_line_errors():
        result = stage(dataset=Path(dataset.path), split=Path(split.path), folder=Path(part.path), part=share)
    part.metadata.update(facts(result, "number", "parts", "work"))
