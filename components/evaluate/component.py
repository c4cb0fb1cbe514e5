from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def evaluate(
    params: str,
    runtime: str,
    code: str,  # noqa: ARG001
    prepared: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    report: dsl.Output[dsl.Artifact],
    scores: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    gallery: dsl.Output[dsl.HTML],
) -> None:
    """Score a candidate on validation and test at native size; the test set is only shown.

    Args:
        params: The section `evaluate` of params.yaml, as text.
        runtime: The section `runtime` of params.yaml, as text.
        code: Names the code, for the cache.
        prepared: What prepare wrote.
        model: What train wrote.
        report: Metrics, per-image table, curves, gallery and thumbnails.
        scores: The headline figures, for Kubeflow's list.
        confusion: Test pixels by class, and the ROC curve.
        gallery: The worst, median and best test images.
    """
    from pathlib import Path

    from segops.kubeflow import one_line_errors, section, show_evaluation
    from segops.params.evaluate import EvaluateParams
    from segops.params.runtime import RuntimeParams
    from segops.stages.evaluate import evaluate as stage

    settings = section(EvaluateParams, params), section(RuntimeParams, runtime)
    with one_line_errors():
        evaluation = stage(*settings, prepared=Path(prepared.path), model=Path(model.path), report=Path(report.path))
    show_evaluation(evaluation, report=report, scores=scores, confusion=confusion, gallery=gallery)
