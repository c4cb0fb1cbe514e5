"""A version fetched for use, checked against the ledger, and what can be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segops.contracts.model import WEIGHTS_FILE
from segops.errors import UserError
from segops.files import sha256_file
from segops.params.tracking import TrackingParams
from segops.tracking import registry, store
from segops.tracking.ledger import Ledger
from segops.tracking.ledger_snapshot import Snapshot


@dataclass(frozen=True)
class Fetched:
    """Holds the folder of a version's fetched files, and what the ledger says of the version.

    Attributes:
        standing: what the ledger says of it, in a few words.
    """

    folder: Path
    model_name: str
    version: int
    standing: str

    @property
    def shown(self) -> str:
        """Describe the version and its standing for a reader."""
        return f"{self.model_name} version {self.version}, {self.standing}"


def fetch(tracking: TrackingParams, reference: str, into: Path, also: tuple[str, ...] = ()) -> Fetched:
    """Download a version's files into the folder `into` and check them against the ledger.

    Args:
        reference: a version number or an alias such as `champion`.
        also: files beside model.json and the weights.

    Raises:
        UserError: there is no such version, or its files aren't those that were registered or promoted.
        TryAgainError: MLflow is away.
    """
    client = store.client(tracking)
    with store.answering():
        snapshot = Ledger(client, tracking).read()
        snapshot.refuse_forged()
        version = int(registry.resolve(client, tracking.model_name, reference).version)
    folder = registry.fetch_model(tracking, str(version), into, also)
    _refuse_other_weights(snapshot, version, folder / WEIGHTS_FILE)
    return Fetched(folder, tracking.model_name, version, snapshot.standing(version))


def _refuse_other_weights(snapshot: Snapshot, version: int, weights: Path) -> None:
    """Raise UserError unless the weights are those that the ledger's last decision for the version names."""
    made = snapshot.decision_for(version)
    if made is not None and made.weights_sha256 not in (None, sha256_file(weights)):
        raise UserError(
            f"'{snapshot.model_name}' version {version} holds other weights than decision {made.number} promoted "
            f"({str(made.weights_sha256)[:12]}): somebody replaced them; use another version or restore its files"
        )
