"""Defines where MLflow keeps runs and versions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from segops.params.section import Section

# An Ed25519 public key: SubjectPublicKeyInfo (RFC 8410) in base64, the body of its PEM file.
PublicKey = Annotated[str, Field(pattern=r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$")]


class TrackingParams(Section):
    """Where MLflow keeps runs and versions. The server is MLFLOW_TRACKING_URI's, else a file in the project."""

    experiment: str = Field("segops", min_length=1, description="the experiment of the candidates' runs")
    model_name: str = Field("synthetic-nuclei", min_length=1, description="the registered model")
    patience_s: float | None = Field(
        None,
        ge=0,
        le=86_400,
        description="how long a command waits for a server that is away, seconds; null: 30, in a pipeline's step 900",
    )
    decision_keys: tuple[PublicKey, ...] = Field(
        (), description="public keys as `segops keygen` prints them; a decision that none of them signed is refused"
    )
    version_keys: tuple[PublicKey, ...] = Field(
        (), description="the same for versions: whose files none of them signed is refused; empty: not asked"
    )

    @property
    def of_runs(self) -> TrackingParams:
        """The same params without the keys, which only matter to those who use a version."""
        return self.model_copy(update={"decision_keys": (), "version_keys": ()})
