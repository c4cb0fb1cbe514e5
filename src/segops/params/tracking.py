"""Where MLflow keeps runs and versions."""

from __future__ import annotations

from pydantic import Field

from segops.section import Section


class TrackingParams(Section):
    """Where MLflow keeps what it is told. The server is MLFLOW_TRACKING_URI's, else a file in the project."""

    experiment: str = Field("segops", min_length=1, description="the experiment of the candidates' runs")
    model_name: str = Field("nuclei-segmentation", min_length=1, description="the registered model")
    patience_s: float | None = Field(
        None,
        ge=0,
        le=86_400,
        description="how long a command waits for a server that is away, seconds; null: 30, in a pipeline's step 900",
    )
