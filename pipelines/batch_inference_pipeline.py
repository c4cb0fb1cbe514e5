"""A source of images through a registered model: masks and a table."""

# No `from __future__ import annotations` here and in components: kfp reads annotations as objects.
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.predict import predict as predict_step
from components.report_status import report_status
from pipelines.resources import DAY_S, HOUR_S, Placement
from segops.kubeflow import as_json
from segops.params.project import Params

NAME = "segops-batch-inference"


def arguments(params: Params) -> dict[str, Any]:
    """The pipeline's arguments by name: sections of params.yaml as JSON."""
    return {name: as_json(getattr(params, name)) for name in ("runtime", "tracking", "batch")}


def batch_inference_pipeline(params: Params) -> BaseComponent:
    """The pipeline with `params` as its defaults; `params.kubeflow` decides image and resources."""
    given, place = arguments(params), Placement(params.kubeflow)

    @dsl.pipeline(
        name=NAME,
        description="A source of images through the champion: masks and a table.",
        pipeline_config=dsl.PipelineConfig(
            ttl_seconds_after_finished=params.kubeflow.ttl_days * DAY_S,
            active_deadline_seconds=params.kubeflow.timeout_hours * HOUR_S,
        ),
    )
    def segops_batch_inference(
        runtime: str = given["runtime"],
        tracking: str = given["tracking"],
        batch: str = given["batch"],
    ) -> None:
        with dsl.ExitHandler(place.tracking(report_status(tracking=tracking))):
            # Never from the cache: an alias moves, and so may what a source's name stands for.
            step = place.training(predict_step(params=batch, runtime=runtime, tracking=tracking))
            step.set_caching_options(False)

    return segops_batch_inference
