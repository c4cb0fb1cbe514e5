from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def tune_worker(
    worker: int,  # noqa: ARG001
    params: str,
    candidates: list,  # type: ignore[type-arg]
    runtime: str,
    tracking: str,
    code: str,  # noqa: ARG001
    prepared: dsl.Input[dsl.Dataset],
) -> None:
    """Run trials of the studies that `tune_start` made, beside other workers, until none is left.

    Args:
        worker: Its number.
        params: The section `tune` of params.yaml, as text.
        candidates: Each candidate's name and its entry in params.yaml as text, the loop's items.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        code: Names the code, for the cache.
        prepared: What prepare wrote.
    """
    from pathlib import Path

    from segops.kubeflow import of_search, one_line_errors
    from segops.stages.tune import work as stage

    with one_line_errors():
        settings, named, machine, _ = of_search(params, candidates, runtime, tracking)
        stage(settings, named, machine, prepared=Path(prepared.path))
