"""Keeps a version's measured backends beside its weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from segops.contracts.backends import Backends
from segops.errors import UserError
from segops.files import sha256_file, write_text
from segops.params.tracking import TrackingParams
from segops.tracking import artifacts, model, registry, signing, store

SIGNATURE = "backends.sig"


def keep_backends(tracking: TrackingParams, version: int, folder: Path) -> None:
    """Upload a folder of backends.json and its files to a version's logged model, signed where there is a key."""
    client, signer = store.client(tracking), signing.signer()
    with store.answering(), tempfile.TemporaryDirectory() as scratch:
        source = registry.resolve(client, tracking.model_name, str(version)).source
        kept = Path(shutil.copytree(folder, Path(scratch) / model.FOLDER / Backends.FOLDER))
        if signer is not None:
            stated = _stated(path.name for path in kept.iterdir())
            files = {stated[name]: sha256_file(kept / name) for name in stated}
            about = {"weights_sha256": Backends.load(kept).weights_sha256}
            write_text(kept / SIGNATURE, signing.seal(signer, files, about))
        client.log_model_artifacts(source.removeprefix("models:/"), scratch)


def fetch_backends(tracking: TrackingParams, version: int, names: tuple[str, ...], folder: Path) -> bool:
    """Download files of a version's backends into a folder, and say whether the version has them.

    Raises: UserError where `tracking.version_keys` lists keys, and none of them signed these files as they are.
    """
    client = store.client(tracking)
    folder.mkdir(parents=True, exist_ok=True)
    with store.answering():
        source = registry.resolve(client, tracking.model_name, str(version)).source
        location = client.get_logged_model(source.removeprefix("models:/")).artifact_location
        try:
            for name in names:
                _fetch(location, name, folder)
        except FileNotFoundError:
            return False
        if (keys := signing.keys(tracking.version_keys)) is not None:
            what = f"the backends of '{tracking.model_name}' version {version}"
            envelope = _envelope(location, folder)
            if not envelope.signed_by(keys):
                raise UserError(
                    f"{what} aren't signed by a key of tracking.version_keys; run `segops export` with "
                    f"{signing.KEY_VARIABLE} set, or take the backend torch"
                )
            if wrong := signing.wrong_files(folder, _stated(names), envelope):
                raise UserError(f"{what}: {wrong[0]} isn't the file that was signed: somebody changed it in the store")
    return True


def _fetch(location: str, name: str, folder: Path) -> Path:
    return artifacts.fetch(location, f"{model.FOLDER}/{Backends.FOLDER}/{name}", folder)


def _envelope(location: str, folder: Path) -> signing.Envelope:
    """Download the signature; that of nothing where there is none."""
    try:
        return signing.Envelope(_fetch(location, SIGNATURE, folder).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return signing.Envelope("")


def _stated(names: Iterable[str]) -> dict[str, str]:
    """Return the paths under which the statement has files, by name."""
    return {name: f"{model.FOLDER}/{Backends.FOLDER}/{name}" for name in names}
