"""Defines where MLflow keeps runs and versions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from segops.params.section import Section

# An Ed25519 public key: SubjectPublicKeyInfo (RFC 8410) in base64, the body of its PEM file.
PublicKey = Annotated[str, Field(pattern=r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=$")]


# What MLflow's pages, filters and paths take. A model's name is a part of paths; an experiment's may be a path itself.
_BOTH = r"'\"`%\\\x00-\x1f\x7f"
_MODEL = rf"^[^./:\s{_BOTH}]([^/:{_BOTH}]*[^/:\s{_BOTH}])?$"
_EXPERIMENT = rf"^[^.\s{_BOTH}]([^{_BOTH}]*[^\s{_BOTH}])?$"
_LONGEST = 200  # characters; MLflow's columns end at 256, and names are made from these


class TrackingParams(Section):
    """Where MLflow keeps runs and versions. The server is MLFLOW_TRACKING_URI's, else a file in the project."""

    experiment: str = Field(
        "segops",
        description="the experiment of the candidates' runs",
        json_schema_extra={"pattern": _EXPERIMENT, "maxLength": _LONGEST},
    )
    model_name: str = Field(
        "synthetic-nuclei",
        description="the registered model",
        json_schema_extra={"pattern": _MODEL, "maxLength": _LONGEST},
    )
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

    @field_validator("model_name")
    @classmethod
    def _model(cls, name: str) -> str:
        return _checked(name, _MODEL, "/ : ")

    @field_validator("experiment")
    @classmethod
    def _experiment(cls, name: str) -> str:
        return _checked(name, _EXPERIMENT, "")

    @property
    def of_runs(self) -> TrackingParams:
        """The same params without the keys, which only matter to those who use a version."""
        return self.model_copy(update={"decision_keys": (), "version_keys": ()})


def _checked(name: str, pattern: str, also: str) -> str:
    """Return a name. Raises ValueError where MLflow would refuse it after a training, or find others by it."""
    if len(name) > _LONGEST or not re.fullmatch(pattern, name):
        raise ValueError(
            f"MLflow needs a name of 1 to {_LONGEST} characters without {also}' \" ` % \\ that begins with no dot and "
            "has no space around it"
        )
    return name
