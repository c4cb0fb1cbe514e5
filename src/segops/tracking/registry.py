"""The one registered model: versions by candidate and weights, the aliases `challenger` and `champion`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segops.comparison.gate import Evidence
from segops.contracts.model import WEIGHTS_FILE, TrainedModel
from segops.contracts.noise import Noise
from segops.contracts.registration import Registration
from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.tracking import artifacts, faults, model, signing, store
from segops.tracking.creation import MARK, create_once
from segops.tracking.evidence import read_evidence, refuse_other_files
from segops.tracking.runs import KEY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DESCRIPTION = "Segmentation models of SegOps; `champion` is the one in use."
CHALLENGER = "challenger"
CHAMPION = "champion"
_MOST_VERSIONS = 2**31 - 1  # what a database's integer holds
_NO_MODEL = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of an id that is nobody's, or that is none


def find_version(client: MlflowClient, name: str, trained: TrainedModel) -> int | None:
    """Return the version with these weights, inference settings and test set, or None; of several the lowest."""
    found = client.search_model_versions(
        f"name = '{name}' and tags.weights_sha256 = '{trained.weights_sha256}' "
        f"and tags.candidate = '{trained.candidate}' and tags.test_sha256 = '{trained.test_sha256}' "
        f"and tags.inference_sha256 = '{trained.inference_sha256}'"
    )
    return min((int(version.version) for version in found if version.status == "READY"), default=None)


def holds(client: MlflowClient, registration: Registration) -> bool:
    """Tell whether the store has the version that a registration names, with its weights."""
    found = client.search_model_versions(
        f"name = '{registration.model_name}' and tags.weights_sha256 = '{registration.weights_sha256}'"
    )
    return any(int(version.version) == registration.version for version in found)


def create_version(
    client: MlflowClient, name: str, trained: TrainedModel, *, run_id: str, model_id: str, tags: dict[str, str]
) -> int:
    """Create a version of a logged model, and the registered model too if it is missing; return its number."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    lineage = {
        "candidate": trained.candidate,
        "weights_sha256": trained.weights_sha256,
        "inference_sha256": trained.inference_sha256,
        "test_sha256": trained.test_sha256,
        "manifest_sha256": trained.manifest_sha256,
        "protocol": trained.protocol,
        "dataset": trained.dataset,
        **({"source_revision": trained.source_revision} if trained.source_revision else {}),
        KEY_TAG: trained.key,
        **tags,
    }
    description = f"{trained.candidate}, {trained.parameters:,} parameters, trained on {trained.dataset}"

    def create(mark: str) -> int:
        """Create the version with this mark and return its number."""
        created = client.create_model_version(
            name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id, description=description,
            tags={**lineage, MARK: mark},
        )  # fmt: skip
        return int(created.version)

    def find(mark: str) -> int | None:
        """Return the number of the version that bears this mark, or None."""
        own = client.search_model_versions(f"name = '{name}' and tags.`{MARK}` = '{mark}'")
        return int(own[0].version) if own else None

    return create_once(create, find)


def open_version(
    client: MlflowClient, name: str, trained: TrainedModel, *, run_id: str, model_id: str, tags: dict[str, str]
) -> int:
    """Return the version that `find_version` finds, or create one. Of two created at once the lower number stays."""
    from mlflow.exceptions import MlflowException

    if (version := find_version(client, name, trained)) is not None:
        return version
    try:
        created = create_version(client, name, trained, run_id=run_id, model_id=model_id, tags=tags)
    except MlflowException as error:
        lowest = None if faults.answer_lost(error) else find_version(client, name, trained)
        if lowest is None:
            raise
        return lowest
    lowest = find_version(client, name, trained)
    if lowest is None or lowest == created:
        return created
    client.delete_model_version(name, str(created))
    return lowest


def versions(client: MlflowClient, name: str) -> set[int]:
    """Return the numbers of the versions that there are."""
    return {int(found.version) for found in client.search_model_versions(f"name = '{name}'")}


def version(client: MlflowClient, name: str, number: int) -> ModelVersion | None:
    """Return a version by its number, or None. One row is asked for, however many versions there are."""
    found = client.search_model_versions(f"name = '{name}' and version_number = {min(number, _MOST_VERSIONS)}")
    return found[0] if found else None


def models_of_versions(client: MlflowClient, name: str) -> set[str]:
    """Return the ids of the logged models that versions are made of."""
    return {str(found.source).removeprefix("models:/") for found in client.search_model_versions(f"name = '{name}'")}


def resolve(client: MlflowClient, name: str, reference: str) -> ModelVersion:
    """Return the version that a number or an alias names. Raises UserError that lists the versions there are."""
    number = int(reference) if reference.isdecimal() else alias(client, name, reference)
    if number is not None and (found := version(client, name, number)) is not None:
        return found
    others = versions(client, name)
    if not others:
        raise UserError(f"MLflow at {store.shown(store.tracking_uri())} has no version of '{name}'; run `dvc repro`")
    known = ", ".join(str(other) for other in sorted(others))
    what = f"version {reference}" if reference.isdecimal() else f"alias '{reference}'"
    raise UserError(f"'{name}' has no {what}; its versions: {known} (see `segops leaderboard`)")


@dataclass(frozen=True)
class RegistryState:
    """Holds the aliases of a registered model with their versions, and its tags."""

    aliases: dict[str, int]
    tags: dict[str, str]


def state(client: MlflowClient, name: str) -> RegistryState:
    """Read the registered model's aliases and tags at this moment; both are empty if there is no such model."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return RegistryState({}, {})
    return RegistryState({name: int(version) for name, version in model.aliases.items()}, dict(model.tags))


def alias(client: MlflowClient, name: str, what: str) -> int | None:
    """Return the version that holds an alias, or None."""
    return state(client, name).aliases.get(what)


def set_alias(client: MlflowClient, name: str, what: str, version: int | None) -> None:
    """Move an alias to a version, or remove it if `version` is None."""
    if version is not None:
        client.set_registered_model_alias(name, what, str(version))
    elif alias(client, name, what) is not None:
        client.delete_registered_model_alias(name, what)


def evidence(client: MlflowClient, version: ModelVersion, tracking: TrackingParams) -> Evidence:
    """Download a version's evidence: scores, per-image table, and the noise of seeds if its run holds it.

    Raises:
        UserError: a file, the weights too, isn't what was registered or signed, or the scores contradict the table.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = (*model.EVIDENCE, WEIGHTS_FILE)
        _download(client, version, names, folder)
        _refuse_unsigned(client, version, folder, names, tracking)
        return read_evidence(version, folder, _noise(client, version, folder))


def _noise(client: MlflowClient, version: ModelVersion, folder: Path) -> Noise | None:
    """Read the noise of seeds from the version's run, or return None if the run has none."""
    try:
        artifacts.fetch(client.get_run(version.run_id).info.artifact_uri, Noise.FILE, folder)
    except FileNotFoundError:
        return None
    return Noise.load(folder)


def fetch_model(tracking: TrackingParams, reference: str, into: Path, also: tuple[str, ...] = ()) -> Path:
    """Download a version's `model.json` and `weights.safetensors` into the folder `into`, and return it.

    Args:
        reference: a version number or an alias such as `champion`.
        also: other files of the version.

    Raises:
        UserError: there is no such version, or its files aren't those that were registered.
        TryAgainError: MLflow is away.
    """
    client = store.client(tracking)
    with store.answering():
        version = resolve(client, tracking.model_name, reference)
        into.mkdir(parents=True, exist_ok=True)
        names = (TrainedModel.FILE, WEIGHTS_FILE, *also)
        _download(client, version, names, into)
        _refuse_unsigned(client, version, into, names, tracking)
    refuse_other_files(version, into)
    return into


def _refuse_unsigned(
    client: MlflowClient, version: ModelVersion, folder: Path, names: tuple[str, ...], tracking: TrackingParams
) -> None:
    """Raise UserError if `tracking.version_keys` lists keys, and none of them signed these files as they are."""
    keys = signing.keys(tracking.version_keys)
    if keys is None:
        return
    envelope = model.signature(client, version.source.removeprefix("models:/"))
    what = f"'{version.name}' version {version.version}"
    if not envelope.signed_by(keys):
        raise UserError(
            f"{what} isn't signed by a key of tracking.version_keys; register it with {signing.KEY_VARIABLE} set "
            f"(`segops register {version.tags.get('candidate', 'CANDIDATE')}`), or use another version"
        )
    if wrong := signing.wrong_files(folder, {name: f"{model.FOLDER}/{name}" for name in names}, envelope):
        raise UserError(f"{what}: {wrong[0]} isn't the file that was signed: somebody changed it in the store")


def _download(client: MlflowClient, version: ModelVersion, names: tuple[str, ...], folder: Path) -> None:
    """Download the named files of a version into `folder`; raise UserError if one is missing."""
    from mlflow.exceptions import MlflowException

    name = names[0]
    try:
        held = client.get_logged_model(version.source.removeprefix("models:/"))
        for name in names:
            artifacts.fetch(held.artifact_location, f"{model.FOLDER}/{name}", folder)
    except (MlflowException, FileNotFoundError) as error:
        if isinstance(error, MlflowException) and error.error_code not in _NO_MODEL:
            raise
        raise UserError(
            f"'{version.name}' version {version.version} holds no {model.FOLDER}/{name}: its artifacts are gone or it "
            "wasn't made by segops; run `segops register --missing`"
        ) from None
