"""Defines what the machine lends to a stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segops.params.section import Section


class RuntimeParams(Section):
    """What the machine lends to a stage."""

    threads: int = Field(2, ge=1, le=256, description="CPU threads of torch; another number changes weights")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where networks run; auto takes cuda, else mps, where there is one"
    )
    devices: int = Field(1, ge=1, le=64, description="GPUs that share a training's batches; with device cpu: processes")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="processes of ingest, validate, prepare and predict, whose files don't depend on their number; "
        "each holds an image or more, and for predict a network of `threads` threads",
    )
    elastic: bool = Field(
        False,
        description="under torchrun, processes may come and go: a training goes on at any width, equal within "
        "rounding, and `devices` isn't asked; false: another width is another training",
    )
    checkpoint_root: str = Field(".segops/checkpoints", description="folder of checkpoints, relative to the project")
    cache_root: str = Field(".segops/cache", description="folder of derived arrays, relative to the project")

    @property
    def of_trainings(self) -> RuntimeParams:
        """What a training and its scores may depend on: by the others, Kubeflow's cache isn't asked."""
        return self.model_copy(update={"workers": 1})
