"""ingest -> validate -> split -> prepare -> train@C -> evaluate@C -> register@C -> compare, as dvc.yaml has it."""

# No `from __future__ import annotations` here and in components: kfp reads annotations as objects.
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.compare import compare as compare_step
from components.evaluate import evaluate as evaluate_step
from components.ingest import ingest as ingest_step
from components.prepare import prepare as prepare_step
from components.register import register as register_step
from components.report_status import report_status
from components.split import split as split_step
from components.train import train as train_step
from components.validate import validate as validate_step
from pipelines.resources import Placement
from segops.kubeflow import as_json, loop_items
from segops.params import Params

NAME = "segops-training"
SECTIONS = ("runtime", "tracking", "ingest", "validate", "split", "evaluate", "register", "compare")
DAY_S, HOUR_S = 86_400, 3_600


def arguments(params: Params) -> dict[str, Any]:
    """The pipeline's arguments by name: the sections of params.yaml as JSON, and the candidates as loop items."""
    sections = {field.alias or name: getattr(params, name) for name, field in Params.model_fields.items()}
    given = {name: as_json(sections[name]) for name in SECTIONS}
    return {**given, "candidates": loop_items(params.candidates)}


def training_pipeline(params: Params) -> BaseComponent:
    """The pipeline with `params` as its defaults; `params.kubeflow` decides images and resources."""
    given, place = arguments(params), Placement(params.kubeflow)

    @dsl.pipeline(
        name=NAME,
        description="From a raw image archive to registered, compared candidates.",
        pipeline_config=dsl.PipelineConfig(
            ttl_seconds_after_finished=params.kubeflow.ttl_days * DAY_S,
            active_deadline_seconds=params.kubeflow.timeout_hours * HOUR_S,
        ),
    )
    def segops_training(
        runtime: str = given["runtime"],
        tracking: str = given["tracking"],
        ingest: str = given["ingest"],
        validate: str = given["validate"],
        split: str = given["split"],
        candidates: list = given["candidates"],  # type: ignore[type-arg]
        evaluate: str = given["evaluate"],
        register: str = given["register"],
        compare: str = given["compare"],
        data: str = "",
        code: str = "",
    ) -> None:
        with dsl.ExitHandler(place.data(report_status())):
            dataset = place.data(ingest_step(params=ingest, data=data, code=code)).outputs["dataset"]
            checked = place.data(validate_step(params=validate, code=code, dataset=dataset)).outputs["report"]
            sides = place.data(split_step(params=split, code=code, dataset=dataset, report=checked)).outputs["split"]
            prepared = place.data(prepare_step(code=code, dataset=dataset, split=sides)).outputs["prepared"]
            with dsl.ParallelFor(candidates, parallelism=params.kubeflow.parallelism) as one:
                model = place.training(
                    train_step(
                        candidate=one.candidate,
                        recipe=one.recipe,
                        runtime=runtime,
                        tracking=tracking,
                        code=code,
                        prepared=prepared,
                    )
                ).outputs["model"]
                report = place.training(
                    evaluate_step(params=evaluate, runtime=runtime, code=code, prepared=prepared, model=model)
                ).outputs["report"]
                registered = place.tracking(
                    register_step(params=register, tracking=tracking, model=model, report=report)
                ).outputs["registered"]
            place.tracking(
                compare_step(
                    params=compare,
                    tracking=tracking,
                    models=dsl.Collected(model),
                    reports=dsl.Collected(report),
                    registrations=dsl.Collected(registered),
                )
            )

    return segops_training
