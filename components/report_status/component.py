from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, packages_to_install=[], install_kfp_package=False)
def report_status(status: dsl.PipelineTaskFinalStatus) -> None:
    """Print how the run ended, as the last line of its log.

    Args:
        status: The outcome of the other steps.
    """
    reason = f": {status.error_message}" if status.error_message else ""
    print(f"segops: the run ended as {status.state}{reason}")  # noqa: T201
