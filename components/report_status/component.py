from kfp import dsl

from components.step import TRAIN_IMAGE, step


@step(TRAIN_IMAGE)
def report_status(tracking: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Print how the run ended, as the last line of its log, and end what it left running in MLflow.

    Args:
        tracking: The section `tracking` of params.yaml, as text.
        status: The outcome of the other steps.
    """
    from segops.kubeflow import close_run, one_line_errors, section
    from segops.params.tracking import TrackingParams

    with one_line_errors():
        close_run(section(TrackingParams, tracking), status.state, status.error_message)
