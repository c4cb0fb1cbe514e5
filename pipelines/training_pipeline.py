"""ingest -> validate -> split -> prepare -> tune -> train@C -> evaluate@C -> register@C -> compare, as in dvc.yaml.

Before them the source's state is asked, never from the cache: it is the key by which the others are found there. Where
equal work was done, and all that it left in MLflow is there, no other step runs.
"""

# No `from __future__ import annotations` here and in components: kfp reads annotations as objects.
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.compare import compare as compare_step
from components.evaluate import evaluate as evaluate_step
from components.ingest import ingest as ingest_step
from components.ingest_join import ingest_join
from components.ingest_part import ingest_part
from components.prepare import prepare as prepare_step
from components.prepare_join import prepare_join
from components.prepare_part import prepare_part
from components.register import register as register_step
from components.report_status import report_status
from components.source_state import source_state
from components.split import split as split_step
from components.train import train as train_step
from components.train_job import train_job as train_job_step
from components.tune import tune as tune_step
from components.tune_start import tune_start
from components.tune_worker import tune_worker
from components.validate import validate as validate_step
from components.validate_join import validate_join
from components.validate_part import validate_part
from pipelines.resources import DAY_S, HOUR_S, Placement
from segops.commands.states import DONE
from segops.kubeflow import loop_items
from segops.params.compact import as_text
from segops.params.project import Params

NAME = "segops-training"
SECTIONS = ("runtime", "tracking", "ingest", "validate", "split", "tune", "evaluate", "register", "compare")


def arguments(params: Params) -> dict[str, Any]:
    """Return the pipeline's arguments by name: sections of params.yaml as text, and the candidates as loop items."""
    sections = {field.alias or name: getattr(params, name) for name, field in Params.model_fields.items()}
    # The keys that are believed are no step's affair: another key must not train anew.
    texts = {name: as_text(sections[name]) for name in SECTIONS} | {"tracking": as_text(params.tracking.of_runs)}
    texts["runtime"] = as_text(params.runtime.of_trainings)
    return {**texts, "candidates": loop_items(params.candidates)}


def in_parallel(params: Params) -> bool:
    """Return whether the search has pods of its own: several workers need a database between them."""
    database = (params.tune.storage or "").startswith("postgresql")
    return params.tune.workers > 1 and bool(params.tune.searches) and database


def _ranged(place: Placement, data_step: Any, part_step: Any, join_step: Any, given: dict[str, Any]) -> Any:
    """Place a data step, in one pod, or in a pod for each range and one that joins what they wrote.

    Returns: its outputs.
    """
    placed = place.ingest if data_step is ingest_step else place.data
    pods = place.params.shards_at_once or 1
    if pods == 1:
        return placed(data_step(**given)).outputs
    with dsl.ParallelFor(list(range(pods)), parallelism=pods) as number:
        part = placed(part_step(number=number, parts=pods, **given)).outputs["part"]
    return place.data(join_step(parts=dsl.Collected(part), **given)).outputs


def training_pipeline(params: Params) -> BaseComponent:
    """Build the pipeline with `params` as its defaults; `params.kubeflow` decides images and resources."""
    defaults, place = arguments(params), Placement(params.kubeflow)

    @dsl.pipeline(
        name=NAME,
        description="From a raw image archive to registered, compared candidates.",
        pipeline_config=dsl.PipelineConfig(
            ttl_seconds_after_finished=params.kubeflow.ttl_days * DAY_S,
            active_deadline_seconds=params.kubeflow.timeout_hours * HOUR_S,
        ),
    )
    def segops_training(
        runtime: str = defaults["runtime"],
        tracking: str = defaults["tracking"],
        ingest: str = defaults["ingest"],
        validate: str = defaults["validate"],
        split: str = defaults["split"],
        tune: str = defaults["tune"],
        candidates: list = defaults["candidates"],  # type: ignore[type-arg]
        evaluate: str = defaults["evaluate"],
        register: str = defaults["register"],
        compare: str = defaults["compare"],
        data: str = "",
        code: str = "",
    ) -> None:
        with dsl.ExitHandler(place.tracking(report_status(tracking=tracking))):
            asked = source_state(
                data=data,
                code=code,
                images=f"{params.kubeflow.data_image} {params.kubeflow.train_image}",
                runtime=runtime,
                tracking=tracking,
                ingest=ingest,
                validate=validate,
                split=split,
                tune=tune,
                candidates=candidates,
                evaluate=evaluate,
                register=register,
                compare=compare,
            )
            state = place.tracking(asked).outputs
            with dsl.If(state["Output"] != DONE):
                reading = {"params": ingest, "data": state["source"], "code": code}
                dataset = _ranged(place, ingest_step, ingest_part, ingest_join, reading)["dataset"]
                checking = {"params": validate, "code": code, "dataset": dataset}
                checked = _ranged(place, validate_step, validate_part, validate_join, checking)["report"]
                sides = place.data(split_step(params=split, code=code, dataset=dataset, report=checked)).outputs[
                    "split"
                ]
                decoding = {"code": code, "dataset": dataset, "split": sides}
                prepared = _ranged(place, prepare_step, prepare_part, prepare_join, decoding)["prepared"]
                search = {
                    "params": tune,
                    "candidates": candidates,
                    "runtime": runtime,
                    "tracking": tracking,
                    "code": code,
                    "prepared": prepared,
                }
                searched = place.tuning(tune_step(**search))
                if in_parallel(params):
                    started = place.tuning(tune_start(**search)).set_caching_options(False)
                    with dsl.ParallelFor(list(range(params.tune.workers)), parallelism=params.tune.workers) as number:
                        worker = place.tuning(tune_worker(worker=number, **search)).set_caching_options(False)
                        worker.after(started)
                    searched.after(worker)
                tuned = searched.outputs["tuned"]
                with dsl.ParallelFor(candidates, parallelism=params.kubeflow.parallelism) as item:
                    training = {
                        "candidate": item.candidate,
                        "recipe": item.recipe,
                        "runtime": runtime,
                        "tracking": tracking,
                        "code": code,
                        "prepared": prepared,
                        "tuned": tuned,
                    }
                    if params.kubeflow.train.kind == "trainjob":
                        trained = place.following(train_job_step(job=as_text(params.kubeflow), **training))
                    else:
                        trained = place.training(train_step(**training))
                    model = trained.outputs["model"]
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
                        work=state["Output"],
                        models=dsl.Collected(model),
                        reports=dsl.Collected(report),
                        registrations=dsl.Collected(registered),
                    )
                )

    return segops_training
