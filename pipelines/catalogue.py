"""Lists the pipelines by name. A new pipeline is a file, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kfp.dsl.base_component import BaseComponent

from pipelines import batch_inference_pipeline as batch
from pipelines import training_pipeline as training
from segops.contracts.comparison import Comparison
from segops.contracts.tables import PREDICTIONS_FILE
from segops.params.project import Params


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: how it is built, its arguments, and what a local run leaves.

    Attributes:
        name: in Kubeflow.
        build: the pipeline with params as its defaults.
        arguments: of a run, by name.
        result: a file of the last step, below the folder of a local run.
    """

    name: str
    build: Callable[[Params], BaseComponent]
    arguments: Callable[[Params], dict[str, Any]]
    result: str

    @property
    def file(self) -> str:
        """The name of its YAML file in `pipelines/`."""
        return f"{self.name}.yaml"


PIPELINES = {
    "training": Pipeline(
        training.NAME,
        training.training_pipeline,
        training.arguments,
        f"compare/comparison/{Comparison.FILE}",
    ),
    "batch-inference": Pipeline(
        batch.NAME,
        batch.batch_inference_pipeline,
        batch.arguments,
        f"predict/masks/{PREDICTIONS_FILE}",
    ),
}
