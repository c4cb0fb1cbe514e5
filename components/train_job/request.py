"""What the pods of a TrainJob are asked to do: a file on the volume that they share with the step that asks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from segops.contracts.base import Contract


class TrainRequest(Contract):
    """request.json of a TrainJob; sections of params.yaml stand as the step got them, as text."""

    FILE: ClassVar[str] = "request.json"
    candidate: str
    recipe: str = Field(description="its entry under candidates")
    runtime: str
    tracking: str
    prepared: Path
    tuned: Path
    model: Path = Field(description="where the first process writes")
    environment: dict[str, str] = Field(description="what the step knows of its run, for the tags in MLflow")
