from kfp import dsl

from components.step import DATA_IMAGE, step


@step(DATA_IMAGE)
def validate_part(
    number: int,
    parts: int,
    params: str,
    code: str,  # noqa: ARG001
    dataset: dsl.Input[dsl.Dataset],
    part: dsl.Output[dsl.Artifact],
) -> None:
    """Look at a range of a dataset's sampled images: a part of what validate does.

    Args:
        number: Of the part, from 0 on.
        parts: How many there are.
        params: The section `validate` of params.yaml, as text.
        code: Names the code, for the cache.
        dataset: What ingest wrote.
        part: What the range's images and masks show.
    """
    from pathlib import Path

    from segops.data.parallel import Part
    from segops.kubeflow import facts, one_line_errors, section
    from segops.params.validate import ValidateParams
    from segops.stages.validate import validate_part as stage

    settings, share = section(ValidateParams, params), Part(int(number), int(parts))
    with one_line_errors():
        result = stage(settings, dataset=Path(dataset.path), folder=Path(part.path), part=share)
    part.metadata.update(facts(result, "number", "parts", "work"))
