"""Defines the batch-inference pipeline: a source of images through a registered model gives masks and a table.

The state of the source and the model's version are asked first, never from the cache: they are the key by which the
masks are found there, so that unchanged images aren't segmented twice by the same version.
"""

# No `from __future__ import annotations` here and in components: kfp reads annotations as objects.
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.batch_state import batch_state
from components.predict import predict as predict_step
from components.predict_join import predict_join
from components.report_status import report_status
from pipelines.resources import DAY_S, HOUR_S, Placement
from segops.params.compact import as_text
from segops.params.project import Params

NAME = "segops-batch-inference"


def arguments(params: Params) -> dict[str, Any]:
    """Return the pipeline's arguments by name: sections of params.yaml as text."""
    return {name: as_text(getattr(params, name)) for name in ("runtime", "tracking", "batch")}


def batch_inference_pipeline(params: Params) -> BaseComponent:
    """Build the pipeline with `params` as its defaults; `params.kubeflow` decides image and resources."""
    sections, place = arguments(params), Placement(params.kubeflow)

    @dsl.pipeline(
        name=NAME,
        description="A source of images through the champion: masks and a table.",
        pipeline_config=dsl.PipelineConfig(
            ttl_seconds_after_finished=params.kubeflow.ttl_days * DAY_S,
            active_deadline_seconds=params.kubeflow.timeout_hours * HOUR_S,
        ),
    )
    def segops_batch_inference(
        runtime: str = sections["runtime"],
        tracking: str = sections["tracking"],
        batch: str = sections["batch"],
        data: str = "",
        code: str = "",
    ) -> None:
        with dsl.ExitHandler(place.tracking(report_status(tracking=tracking))):
            state = place.tracking(batch_state(params=batch, tracking=tracking, data=data))
            given = {"params": batch, "runtime": runtime, "tracking": tracking, "data": state.output, "code": code}
            pods = params.kubeflow.shards_at_once or 1
            if pods == 1:
                place.training(predict_step(**given))
            else:
                with dsl.ParallelFor(list(range(pods)), parallelism=pods) as number:
                    part = place.training(predict_step(number=number, parts=pods, **given)).outputs["masks"]
                place.data(predict_join(params=batch, code=code, parts=dsl.Collected(part)))

    return segops_batch_inference
