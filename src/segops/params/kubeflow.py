"""Defines the params of running on Kubeflow. They decide where steps run, never what they compute."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from segops.params.section import Section

# registry.host:port/path/name:tag@sha256:digest, as container engines read it.
_IMAGE = r"([a-zA-Z0-9.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[\w][\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
_CPU, _MEMORY = r"^\d+m?$", r"^\d+(Mi|Gi)$"
_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"  # of a Kubernetes object


class ProfileParams(Section):
    """What a step may use, and what a node must have free for it to start."""

    cpu: str = Field("2", pattern=_CPU, description="most CPU cores, as Kubernetes writes them")
    cpu_request: str | None = Field(None, pattern=_CPU, description="cores that must be free; null: as many as cpu")
    memory: str = Field("8Gi", pattern=_MEMORY, description="most memory; a step that takes more is killed")
    memory_request: str | None = Field(None, pattern=_MEMORY, description="memory that must be free; null: all of it")
    accelerator: str | None = Field(None, description="resource name of an accelerator, such as nvidia.com/gpu")
    accelerators: int = Field(0, ge=0, le=64, description="how many; runtime.devices uses as many")
    shm_gib: int = Field(1, ge=0, description="shared memory at /dev/shm; several devices need it; 0: the node's own")
    node_selector: dict[str, str] = Field({}, description="labels that a node must have")
    tolerations: list[dict[str, str]] = Field([], description="taints to bear: key, operator, value, effect")

    @model_validator(mode="after")
    def _named(self) -> ProfileParams:
        """Refuse half an accelerator, and requests above their limits."""
        if bool(self.accelerators) != bool(self.accelerator):
            raise ValueError("accelerator and accelerators go together: name one and say how many, or neither")
        for name, wanted, most in (
            ("cpu", self.cpu_request, self.cpu),
            ("memory", self.memory_request, self.memory),
        ):
            if wanted is not None and _quantity(wanted) > _quantity(most):
                raise ValueError(f"{name}_request {wanted} is more than {name} {most}; Kubernetes refuses that")
        return self


def _quantity(text: str) -> int:
    """Return a quantity of Kubernetes as a number of milli-cores, or of MiB."""
    number = int(text.rstrip("mMGi"))
    return number if text.endswith(("m", "Mi")) else number * (1024 if text.endswith("Gi") else 1000)


# All steps of the default start in turn on a laptop's cluster. Requests are above the default's measured peaks
# (docs/results/speed.md); limits leave room for larger images and models.
_LIGHT = ProfileParams(cpu="1", cpu_request="100m", memory="2Gi", memory_request="1Gi", shm_gib=0)
_CPU_PROFILE = ProfileParams(cpu="2", cpu_request="1", memory="8Gi", memory_request="2Gi")


class TrainOnParams(Section):
    """Where a candidate is trained: in the step's own pod, or on several nodes at once."""

    kind: Literal["pod", "trainjob"] = Field(
        "pod", description="trainjob: Kubeflow Trainer's, followed and removed by the step; it needs `volume`"
    )
    nodes: int = Field(1, ge=1, le=64, description="of a TrainJob, each as large as train_profile; one process per GPU")
    runtime: str = Field("segops-torch", description="the TrainingRuntime, which holds secrets, volume and user")
    queue: str | None = Field(None, description="Kueue's local queue in which a TrainJob waits; null: none")


class KubeflowParams(Section):
    """Images, resources, retries and secrets of the pipeline's steps."""

    data_image: str = Field("segops/data-python:0.1.0", description="image of data steps; name a digest")
    train_image: str = Field("segops/train-python:0.1.0", description="image of steps that need torch; name a digest")
    light_profile: str = Field("light", description="profile of register, compare and report-status")
    data_profile: str = Field("cpu", description="profile of ingest, validate, split and prepare")
    train_profile: str = Field("cpu", description="profile of tune, train, evaluate and predict")
    profiles: dict[str, ProfileParams] = Field(
        {"light": _LIGHT, "cpu": _CPU_PROFILE}, description="resources by name; light is always there"
    )
    train: TrainOnParams = TrainOnParams()
    parallelism: int = Field(1, ge=1, le=64, description="candidates at the same time; 1 unless each has a GPU")
    shards_at_once: int | None = Field(
        None,
        ge=1,
        le=64,
        description="pods that each work on a range of the data in ingest, validate, prepare and a batch's predict, "
        "and one that joins them; the bytes are those of a single pod, which 1 and null give",
    )
    retries: int = Field(
        2,
        ge=0,
        le=10,
        description="of a process that a signal killed or that another try may help, 30 s apart and doubling; "
        "and of a pod that was deleted",
    )
    timeout_hours: int = Field(24, ge=1, le=720, description="longest run")
    ttl_days: int = Field(7, ge=1, le=365, description="a finished run's pods are kept so long")
    volume: str | None = Field(
        None,
        description="a volume claim for checkpoints and derived arrays; null: a retried pod starts over",
    )
    service_account: str | None = Field(None, description="of the run's pods; null: the cluster's default for runs")
    s3_secret: str | None = Field(
        None,
        description="Kubernetes secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; null: the pod's own role",
    )
    lakefs_secret: str | None = Field(
        None,
        description="Kubernetes secret with LAKECTL_CREDENTIALS_ACCESS_KEY_ID and "
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY, for a lakefs:// source",
    )
    mlflow_secret: str | None = Field(
        None,
        description="Kubernetes secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    )
    tune_secret: str | None = Field(
        None,
        description="Kubernetes secret with PGHOST, PGUSER, PGDATABASE and PGPASSWORD; tune.storage is postgresql:///",
    )
    patient_secret: str | None = Field(
        None, description="Kubernetes secret with SEGOPS_PATIENT_KEY, by which ingest.layout dicom hashes patients' ids"
    )
    environment: dict[str, str] = Field(
        {}, description="set in every step: MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL, SEGOPS_KFP_UI for links; no secrets"
    )

    @field_validator("profiles", mode="before")
    @classmethod
    def _with_light(cls, value: object) -> object:
        return {"light": _LIGHT, **value} if isinstance(value, dict) else value

    @field_validator("data_image", "train_image")
    @classmethod
    def _image(cls, value: str) -> str:
        if not re.fullmatch(_IMAGE, value):
            raise ValueError("no name of an image; write registry/path:tag or registry/path@sha256:<64 hex digits>")
        return value

    @field_validator(
        *("volume", "service_account", "s3_secret", "lakefs_secret", "mlflow_secret", "tune_secret", "patient_secret")
    )
    @classmethod
    def _object(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_NAME, value):
            raise ValueError("no name of a Kubernetes object; it has small letters, digits, - and .")
        return value

    @model_validator(mode="after")
    def _profiles(self) -> KubeflowParams:
        """Refuse an unknown profile, and a secret in the environment."""
        for name in (self.light_profile, self.data_profile, self.train_profile):
            if name not in self.profiles:
                raise ValueError(f"no profile '{name}'; kubeflow.profiles has {', '.join(self.profiles)}")
        if self.train.kind == "trainjob" and self.volume is None:
            raise ValueError("train.kind trainjob needs a volume that all nodes mount; set kubeflow.volume")
        hidden = [name for name in self.environment if "SECRET" in name or "PASSWORD" in name or "TOKEN" in name]
        if hidden:
            raise ValueError(f"environment holds {hidden[0]}; put it into a Kubernetes secret")
        return self
