"""The ledger of decisions: one run per decision, in an experiment of its own. Nothing in it is changed afterwards.

Each entry names the SHA-256 of those before it that no other entry named yet, as commits name their parents, so that a
later change or removal of an entry that another one follows is seen. A tag of the registered model names the last one.

An entry is written before the alias moves, and closed after the alias was read again. What a dead process left open is
settled by the next command: it counts where the alias has moved.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from segops.contracts.decision import Decision
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.tracking import TrackingParams
from segops.tracking import registry, signing
from segops.tracking.creation import MARK, create_once
from segops.tracking.ledger_snapshot import Entry, Snapshot, State
from segops.tracking.signing import Keys, Signer
from segops.tracking.store import experiment_id, find_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TAG = "segops.decision."  # an entry's JSON, in numbered pieces: MLflow cuts off what is longer than 8000 characters
_PIECE = 7000
_SIGNATURE = "segops.signature"  # of the entry's line
_HEAD = "segops.ledger.head"  # of the registered model: the last entry's SHA-256
_PAGE = 5000  # entries in one answer
# An entry or a claim that nobody finished for this long belongs to a process that died: longer than a request to move
# the alias may be on its way.
ABANDONED_S = 150.0


class Ledger:
    """Reads and writes the decisions about one registered model. `read` once per command and pass the snapshot on."""

    def __init__(self, client: MlflowClient, tracking: TrackingParams) -> None:
        self._client = client
        self.model_name = tracking.model_name
        self._experiment = f"{tracking.experiment}-decisions"
        self._keys = signing.keys(tracking.decision_keys)

    def read(self) -> Snapshot:
        """Read the entries, then the alias. This writes nothing, so that a read-only account can do it."""
        runs = self._runs()
        present = registry.state(self._client, self.model_name)
        alias, now = present.aliases.get(registry.CHAMPION), time.time()
        entries, damaged = [], []
        for run in runs:
            try:
                entries.append(_entry(run, alias, now, self._keys))
            except ValidationError:
                damaged.append(run.info.run_id)
        head = present.tags.get(_HEAD)
        return Snapshot(self.model_name, tuple(entries), alias, head, tuple(damaged), strict=self._keys is not None)

    def settled(self) -> Snapshot:
        """Read the ledger, and close in the store the entries that dead processes left open, as the snapshot says."""
        snapshot = self.read()
        for entry in snapshot.entries:
            if not entry.settled and entry.state != "open":
                self.close(entry.run_id, counts=entry.state == "counts")
        return snapshot

    def refuse_unless_signing(self) -> Signer | None:
        """Return the key that signs decisions, or None if none is set and none is required.

        Raises:
            UserError: `tracking.decision_keys` asks for a signature, and this process has none of these keys.
        """
        signer = signing.signer()
        if self._keys is not None and (signer is None or not self._keys.has(signer)):
            how = f"set {signing.KEY_VARIABLE} to" if signer is None else f"the key of {signing.KEY_VARIABLE} isn't"
            raise UserError(f"decisions must be signed: {how} one of tracking.decision_keys; nothing was changed")
        return signer

    def sign(self, snapshot: Snapshot) -> int:
        """Sign the entries that count and aren't signed yet, and return how many. Raises as `refuse_unless_signing`."""
        signer = self.refuse_unless_signing()
        if signer is None:
            raise UserError(f"set {signing.KEY_VARIABLE} to the private key that shall sign")
        unsigned = [entry for entry in snapshot.entries if entry.state == "counts" and not entry.signed]
        for entry in unsigned:
            self._client.set_tag(entry.run_id, _SIGNATURE, signer.sign(signing.DECISION, entry.line.encode()))
        return len(unsigned)

    def claim(self, number: int) -> int:
        """Take decision `number`, or the next free one, for this process and return it; of two at once one gets it.

        The claim is an experiment's name, which both kinds of store keep unique; it is deleted at once, since deleted
        names stay taken and don't clutter the pages. A dead process's claim is passed over.

        Raises:
            UserError: another decision was made, or is being made.
        """
        from mlflow.exceptions import MlflowException

        while True:
            name = f"{self._experiment}/{self.model_name}/{number:06d}"
            try:
                claimed = create_once(partial(self._new_claim, name), partial(self._own_claim, name))
                self._hide_claim(claimed)
                return number
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            holder = self._client.get_experiment_by_name(name)
            assert holder is not None
            self._refuse_unless_abandoned(number, time.time() - holder.creation_time / 1000)
            self._hide_claim(holder.experiment_id)
            number += 1

    def _new_claim(self, name: str, mark: str) -> str:
        """Create the experiment that claims a number, tagged with this process's mark, and return its id."""
        return str(self._client.create_experiment(name, tags={MARK: mark}))

    def _own_claim(self, name: str, mark: str) -> str | None:
        """Return the id of the claim if it bears this mark, or None."""
        holder = self._client.get_experiment_by_name(name)
        return str(holder.experiment_id) if holder is not None and holder.tags.get(MARK) == mark else None

    def _hide_claim(self, experiment: str) -> None:
        """Delete the claim's experiment, so that pages don't show it; its name stays taken."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.delete_experiment(experiment)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted already, perhaps by this very request
                raise

    def _refuse_unless_abandoned(self, number: int, age_s: float) -> None:
        """Raise UserError if the decision with this number was made or is still being made by another process."""
        snapshot = self.read()
        made = next((move for move in snapshot.moves if move.number == number), None)
        if made is not None:
            raise UserError(
                f"meanwhile {made.who} made decision {number} (champion is version {made.to_version}); nothing was "
                "changed: look at `segops history` and run the command again"
            )
        void = any(entry.decision.number == number for entry in snapshot.entries if entry.state == "void")
        if not void and (age_s < ABANDONED_S or snapshot.open):
            raise UserError(
                f"another process is making decision {number} right now; nothing was changed: look at "
                "`segops history` in a few minutes and run the command again"
            )

    def open(self, decision: Decision, snapshot: Snapshot) -> str:
        """Write an entry that counts once `close` is called, and return the id of its run.

        Args:
            snapshot: what the decision rests on; its last entries are those that this entry names.
        """
        line = decision.model_copy(update={"previous": snapshot.to_follow()}).model_dump_json()
        run = self._write(decision, line)
        try:
            self._client.set_registered_model_tag(self.model_name, _HEAD, sha256_lines([line]))
            self._show(run, decision)
        except BaseException:
            with suppress(Exception):  # what stays open holds the next decision up for some minutes
                self.close(run.info.run_id, counts=not decision.moves)
            raise
        return str(run.info.run_id)

    def _show(self, run: Run, decision: Decision) -> None:
        """Log the decision's params and the gate's metrics for MLflow's pages."""
        from mlflow.entities import Metric, Param

        shown = ("number", "action", "override", "candidate", "from_version", "to_version", "who", "when", "reason")
        values = decision.model_dump(include=set(shown))
        self._client.log_batch(
            run.info.run_id,
            params=[Param(name, str(values[name])) for name in shown if values[name] is not None],
            metrics=[
                Metric(f"gate/{_plain(check.name)}", check.value, run.info.start_time, 0)
                for check in decision.checks
                if check.value is not None
            ],
        )

    def _write(self, decision: Decision, line: str) -> Run:
        """Create the run that holds the entry's line in pieces, signed where a key is set."""
        pieces = {f"{_TAG}{at:03}": line[at * _PIECE :][:_PIECE] for at in range(-(-len(line) // _PIECE))}
        if signer := self.refuse_unless_signing():
            pieces[_SIGNATURE] = signer.sign(signing.DECISION, line.encode())
        title = f"decision {decision.number}: " if decision.number is not None else ""
        experiment = experiment_id(self._client, self._experiment)
        return create_once(
            lambda mark: self._client.create_run(
                experiment,
                run_name=f"{title}{decision.action} version {decision.to_version}",
                tags={"model_name": self.model_name, "mlflow.user": decision.who, MARK: mark, **pieces},
            ),
            lambda mark: next(iter(self._client.search_runs([experiment], f"tags.`{MARK}` = '{mark}'")), None),
        )

    def close(self, run_id: str, *, counts: bool = True) -> None:
        """Close an entry, so that it counts, or is void if `counts` is false."""
        self._client.set_terminated(run_id, "FINISHED" if counts else "FAILED")

    def append(self, decision: Decision, snapshot: Snapshot) -> None:
        """Write and close an entry that moves no alias."""
        self.close(self.open(decision, snapshot))

    def _runs(self) -> list[Run]:
        """Return all runs of the model's ledger, the oldest first."""
        experiment = find_experiment(self._client, self._experiment)
        found: list[Run] = []
        token: str | None = None
        while experiment is not None and token != "":
            page = self._client.search_runs(
                [experiment],
                filter_string=f"tags.model_name = '{self.model_name}'",
                order_by=["attributes.start_time ASC"],
                max_results=_PAGE,
                page_token=token,
            )
            found, token = [*found, *page], page.token or ""
        return found


def now() -> str:
    """Return the present time (UTC, ISO 8601, seconds) for an entry."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _entry(run: Run, alias: int | None, at: float, keys: Keys | None) -> Entry:
    """Read an entry from its run and decide whether it counts; for a move that isn't closed the alias decides."""
    line = "".join(text for name, text in sorted(run.data.tags.items()) if name.startswith(_TAG))
    decision = Decision.model_validate_json(line)
    old = at - run.info.start_time / 1000 > ABANDONED_S
    settled = run.info.status != "RUNNING"
    counts = run.info.status == "FINISHED" if settled else not decision.moves or decision.to_version == alias
    state: State = "counts" if counts else "void" if settled or old else "open"
    signature = run.data.tags.get(_SIGNATURE)
    signed = signature is not None if keys is None else keys.signed(signing.DECISION, line.encode(), signature)
    return Entry(run.info.run_id, line, state, settled, headed=MARK in run.data.tags, signed=signed)


def _plain(name: str) -> str:
    """Replace every character that isn't a letter or digit with `_`, for a metric's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
