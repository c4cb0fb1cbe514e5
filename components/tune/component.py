from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def tune(
    params: str,
    candidates: list,  # type: ignore[type-arg]
    runtime: str,
    tracking: str,
    code: str,  # noqa: ARG001
    prepared: dsl.Input[dsl.Dataset],
    tuned: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Search for the hyperparameters that validation prefers; a retried pod resumes the same study.

    Args:
        params: The section `tune` of params.yaml, as text.
        candidates: Each candidate's name and its entry in params.yaml as text, the loop's items.
        runtime: The section `runtime` of params.yaml, as text.
        tracking: The section `tracking` of params.yaml, as text.
        code: Names the code, for the cache.
        prepared: What prepare wrote.
        tuned: best.yaml, one part per candidate.
        report: index.html, trials.csv and pictures.
        page: index.html, for Kubeflow's viewer.
    """
    from pathlib import Path

    from segops.kubeflow import of_search, one_line_errors, show_search
    from segops.stages.tune import tune as stage

    with one_line_errors():
        arguments = of_search(params, candidates, runtime, tracking)
        result = stage(*arguments, prepared=Path(prepared.path), tuned=Path(tuned.path), report=Path(report.path))
    show_search(result, tuned=tuned, report=report, page=page)
