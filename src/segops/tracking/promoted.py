"""A version fetched for use, and what can be said of it: its number, and the decision that made it the champion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segops.params.tracking import TrackingParams
from segops.tracking import registry, store
from segops.tracking.ledger import Ledger


@dataclass(frozen=True)
class Fetched:
    """A version's files, and where it stands."""

    folder: Path
    model_name: str
    version: int
    decision: int | None  # that made it the champion last; None: none did

    @property
    def shown(self) -> str:
        """The version and its decision, as a reader sees them."""
        told = "never promoted" if self.decision is None else f"champion by decision {self.decision}"
        return f"{self.model_name} version {self.version}, {told}"


def fetch(tracking: TrackingParams, reference: str, into: Path, also: tuple[str, ...] = ()) -> Fetched:
    """Download a version's files into the folder `into`.

    Args:
        reference: a version number or an alias such as `champion`.
        also: files beside model.json and the weights.

    Raises:
        UserError: MLflow is away, or there is no such version.
    """
    client = store.client(tracking)
    with store.answering():
        version = int(registry.resolve(client, tracking.model_name, reference).version)
        made = [one.number for one in Ledger(client, tracking).entries() if one.to_version == version and one.number]
    folder = registry.fetch_model(tracking, str(version), into, also)
    return Fetched(folder, tracking.model_name, version, made[-1] if made else None)
