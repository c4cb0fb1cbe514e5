"""Reads params.yaml as typed models: defaults, units, ranges; unknown keys are refused with the nearest right key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError, model_validator

from segops.errors import UserError
from segops.files import readable
from segops.params.batch import BatchParams
from segops.params.candidate import CandidateParams
from segops.params.compare import CompareParams
from segops.params.drift import DriftParams
from segops.params.evaluate import EvaluateParams
from segops.params.explain import explain
from segops.params.export import ExportParams
from segops.params.ingest import IngestParams
from segops.params.kubeflow import KubeflowParams
from segops.params.promote import PromoteParams
from segops.params.register import RegisterParams
from segops.params.runtime import RuntimeParams
from segops.params.search_space import check_search
from segops.params.section import Section
from segops.params.split import SplitParams
from segops.params.tracking import TrackingParams
from segops.params.tune import TuneParams
from segops.params.validate import ValidateParams
from segops.params.watch import WatchParams

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

_DEFAULT_NAME = "synthetic-nuclei"


class Params(Section):
    """All of params.yaml."""

    runtime: RuntimeParams = RuntimeParams()
    tracking: TrackingParams = TrackingParams()
    ingest: IngestParams
    validate_: ValidateParams = Field(ValidateParams(), alias="validate")
    split: SplitParams = SplitParams()
    candidates: dict[Name, CandidateParams] = Field(
        min_length=1, description="by a name of small letters, digits and _: networks to train, judge and compare"
    )
    tune: TuneParams = TuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_: RegisterParams = Field(RegisterParams(), alias="register")
    compare: CompareParams = CompareParams()
    promote: PromoteParams = PromoteParams()
    export: ExportParams = ExportParams()
    drift: DriftParams = DriftParams()
    batch: BatchParams = BatchParams()
    watch: WatchParams = WatchParams()
    kubeflow: KubeflowParams = KubeflowParams()

    @model_validator(mode="after")
    def _searchable(self) -> Params:
        """Refuse an object called background, and a search of no candidate or in a space that it does not have."""
        self.ingest.check_background()
        for name, search in self.tune.searches.items():
            if name not in self.candidates:
                raise ValueError(
                    f"tune.searches: there is no candidate '{name}'; there are {', '.join(self.candidates)}"
                )
            if not self.candidates[name].trained:
                raise ValueError(f"tune.searches.{name}: that candidate trains nothing; leave the search out")
            check_search(name, self.candidates[name], search, self.tune)
        return self

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Params:
        """Refuse candidates for volumes of pictures, those for pictures of volumes, and the published protocol."""
        volumes = self.ingest.dimensions == 3
        for name, candidate in self.candidates.items():
            for network in candidate.networks:
                sees = network.input.slices is not None or network.input.of_volumes
                if volumes and not sees:
                    raise ValueError(
                        f"candidates.{name}.input: ingest.dimensions is 3; set slices, such as {{axis: axial}}, or "
                        "take a network for volumes with a size of three numbers"
                    )
                if not volumes and (sees or network.input.volume is not None):
                    raise ValueError(
                        f"candidates.{name}.input: slices, volume and a size of three numbers are for volumes, "
                        "ingest.dimensions is 2"
                    )
        if volumes and self.batch.bits is not None:
            raise ValueError("batch.bits is of 16-bit pictures, ingest.dimensions is 3; set it to null")
        if volumes and self.split.protocol == "published":
            raise ValueError("split.protocol published is that of a set of pictures; of volumes take grouped")
        return self

    @model_validator(mode="after")
    def _as_many_processes(self) -> Params:
        """Refuse a TrainJob of another number of processes than the trainings' keys say."""
        on, profile = self.kubeflow.train, self.kubeflow.profiles[self.kubeflow.train_profile]
        processes = on.nodes * (profile.accelerators or 1)
        if on.kind == "trainjob" and not self.runtime.elastic and processes != self.runtime.devices:
            raise ValueError(
                f"kubeflow.train: {on.nodes} nodes of profile {self.kubeflow.train_profile} are {processes} processes, "
                f"runtime.devices is {self.runtime.devices}; set it to {processes}, or runtime.elastic to true"
            )
        return self

    def check_own_data(self) -> None:
        """Raise UserError for own data under the default run's name or model's name, or without a licence.

        It is called where data are taken in, since a command that uses a model may have params of its own.
        """
        if self.ingest.synthetic:
            return
        if not self.ingest.licence:
            raise UserError(f"ingest.licence: state the licence of {self.ingest.source}, such as CC-BY-4.0, or unknown")
        for param, name in (("ingest.name", self.ingest.name), ("tracking.model_name", self.tracking.model_name)):
            if name == _DEFAULT_NAME:
                raise UserError(f"{param} '{name}' is the default run's; give your own data and its model a name")

    def candidate(self, name: str) -> CandidateParams:
        """Return the candidate called `name`. Raises UserError that lists the candidates there are."""
        if name not in self.candidates:
            raise UserError(f"params.yaml has no candidate '{name}'; it has {', '.join(self.candidates)}")
        return self.candidates[name]


def load_params(path: Path) -> Params:
    """Read and check params.yaml; a section without lines takes its defaults.

    Raises: UserError with one line for the first mistake.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: no file of params; name a params.yaml with --params")  # a device may never end
    try:
        with readable(path, "YAML file", "correct it"):
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or pass --params") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected sections such as 'ingest:' and 'candidates:', found {type(raw).__name__}")
    try:
        return Params.model_validate({name: {} if section is None else section for name, section in raw.items()})
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error, Params)}") from None
