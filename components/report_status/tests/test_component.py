from __future__ import annotations

import pytest
from kfp import dsl

from components.report_status import report_status
from segops.params.compact import as_text
from segops.params.tracking import TrackingParams

AGAIN = "; submit the same again: it resumes from the cache and the checkpoints"


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [("SUCCEEDED", "", "SUCCEEDED"), ("FAILED", "train ended with 1", f"FAILED: train ended with 1{AGAIN}")],
)
def test_the_last_line_says_how_the_run_ended(
    state: str, message: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = dsl.PipelineTaskFinalStatus(
        state=state,
        pipeline_job_resource_name="run",
        pipeline_task_name="task",
        error_code=None,
        error_message=message,
    )
    report_status.python_func(tracking=as_text(TrackingParams()), status=status)
    assert capsys.readouterr().err == f"segops: the run ended as {said}\n"
