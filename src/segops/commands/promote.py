"""Decides who is the champion: promote and rollback.

A person's commands, not graph stages.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segops.errors import UserError
from segops.files import MIB
from segops.params.promote import PromoteParams
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from segops.comparison.gate import Evidence, Footprint
    from segops.contracts.decision import Decision
    from segops.tracking.ledger import Ledger
    from segops.tracking.ledger_snapshot import Snapshot
    from segops.tracking.store import MlflowClient

_REASON_LENGTH = 1000
_MANY_READS = 20  # of the same test set
_DECLINED = {"number": None, "action": "declined", "override": False}


class GateRefused(UserError):  # noqa: N818 - a refusal is an answer, no error
    """A check of the gate failed; the command line exits with 3."""

    exit_code = 3


class Declined(UserError):  # noqa: N818
    """The person said no."""


def promote(
    version: str,
    params: PromoteParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
    *,
    confirm: Callable[[str], bool],
    reason: str | None = None,
    override: str | None = None,
    who: str | None = None,
) -> Decision:
    """Make a version the champion when it passes the gate and `confirm` says yes; the ledger records it all.

    Args:
        version: a version number, or an alias such as `challenger`.
        runtime: where the time per image is measured, if `params` has a ceiling for it.
        confirm: asked once, after the checks are shown.
        override: why the version is promoted though checks fail. Even another test set can be overridden, since else no
            version of a dataset that grew could ever be promoted; what is compared image by image isn't asked then.
        who: default: user@host.

    Raises:
        GateRefused: a check failed; the refusal is in the ledger, since the test set was read.
        Declined: `confirm` said no.
        UserError: no such version, it is the champion already, or somebody else was first.
        TryAgainError: MLflow is away.
    """
    from segops.tracking import store
    from segops.tracking.champion import move_champion
    from segops.tracking.ledger import Ledger

    reason = _checked_reason(reason, override)
    client = store.client(tracking)
    with store.answering():
        ledger = Ledger(client, tracking)
        snapshot = _settled(ledger)
        decision = _judged(client, snapshot, version, params, runtime, tracking)
        failed = decision.failed
        names = ", ".join(check.name for check in failed)
        person = {"who": who or _who(), "reason": reason, "override": bool(failed) and override is not None}
        decision = decision.model_copy(update=person)
        if failed and not decision.override:
            ledger.append(decision.model_copy(update={"number": None, "action": "refused"}), snapshot)
            raise GateRefused(
                f"the gate refused version {decision.to_version}: {names}; with a reason for the ledger, "
                '`--override "why"` promotes it all the same'
            )
        though = f" though it fails: {names}" if failed else ""
        question = f"Make version {decision.to_version} the champion of '{tracking.model_name}'{though}?"
        _ask(confirm, question, lambda: ledger.append(decision.model_copy(update=_DECLINED), snapshot))
        return move_champion(client, ledger, snapshot, decision, tracking)


def rollback(
    tracking: TrackingParams,
    *,
    confirm: Callable[[str], bool],
    to: int | None = None,
    reason: str | None = None,
    who: str | None = None,
) -> Decision:
    """Restore a former champion, as the ledger has it. Raises as `promote` does.

    Args:
        to: its version; default: the champion before the present, or the ledger's champion where the alias was moved
            by hand; a version that was deleted is passed over, and that is said.
    """
    from segops.contracts.decision import Decision
    from segops.tracking import registry, store
    from segops.tracking.champion import move_champion
    from segops.tracking.ledger import Ledger, now

    reason = _checked_reason(reason)
    client = store.client(tracking)
    with store.answering():
        ledger = Ledger(client, tracking)
        snapshot = _settled(ledger)
        there = registry.versions(client, tracking.model_name)
        before = registry.resolve(client, tracking.model_name, str(snapshot.return_to(to, there)))
        present = f"from version {snapshot.alias} " if snapshot.alias is not None else ""
        _ask(confirm, f"Return '{tracking.model_name}' {present}to version {before.version}?")
        decision = Decision(
            number=snapshot.next_number,
            action="rollback",
            model_name=tracking.model_name,
            from_version=snapshot.alias,
            to_version=int(before.version),
            by_hand=snapshot.by_hand,
            who=who or _who(),
            when=now(),
            reason=reason,
            **_lineage(before.tags),
        )
        return move_champion(client, ledger, snapshot, decision, tracking)


def _judged(
    client: MlflowClient,
    snapshot: Snapshot,
    reference: str,
    params: PromoteParams,
    runtime: RuntimeParams,
    tracking: TrackingParams,
) -> Decision:
    """Build the decision to promote a version, with the gate's answers, before anybody agrees to it."""
    from segops.comparison.gate import judge
    from segops.contracts.decision import Decision
    from segops.tracking import comparison, registry
    from segops.tracking.ledger import now

    name, champion = snapshot.model_name, snapshot.alias
    wanted = registry.resolve(client, name, reference)
    if int(wanted.version) == champion == snapshot.champion:
        raise UserError(f"version {champion} of '{name}' is the champion already")
    evidence = registry.evidence(client, wanted, tracking)
    rival = snapshot.rival(int(wanted.version), registry.versions(client, name))
    held = registry.resolve(client, name, str(rival)) if rival is not None else None
    footprint = _footprint(params, runtime, tracking, evidence.version) if params.has_ceiling else None
    checks = judge(params, evidence, registry.evidence(client, held, tracking) if held is not None else None, footprint)
    decision = Decision(
        number=snapshot.next_number,
        action="promote",
        model_name=name,
        from_version=champion,
        to_version=evidence.version,
        by_hand=snapshot.by_hand,
        who="",
        when=now(),
        checks=checks,
        test_reads=snapshot.test_reads(evidence.evaluation.test_sha256) + 1,
        **_lineage(wanted.tags) | _judged_files(evidence),
    )
    _show(decision, rival, comparison.said(client, wanted.run_id))
    return decision


def _lineage(tags: dict[str, str]) -> dict[str, Any]:
    """Return what a version's tags say of its origin."""
    from segops.tracking.runs import KEY_TAG

    names = ("candidate", "git_commit", "weights_sha256", "manifest_sha256", "test_sha256")
    return {name: tags.get(name) for name in names} | {"key": tags.get(KEY_TAG)}


def _judged_files(evidence: Evidence) -> dict[str, Any]:
    """Return the hashes of what the gate has read, which tags merely repeat."""
    names = ("candidate", "key", "weights_sha256", "test_sha256")
    return {name: getattr(evidence.evaluation, name) for name in names} | {
        name: evidence.hashes.get(name) for name in ("metrics_sha256", "per_image_sha256")
    }


def _footprint(params: PromoteParams, runtime: RuntimeParams, tracking: TrackingParams, version: int) -> Footprint:
    """Measure what a version costs on this machine: parameters, size, and time per image where it has a ceiling."""
    from segops.comparison.gate import Footprint
    from segops.contracts.model import WEIGHTS_FILE, TrainedModel
    from segops.inference.cost import measure_cost
    from segops.inference.device import inference_device
    from segops.inference.predict import Predictor
    from segops.tracking.registry import fetch_model
    from segops.training.process import prepare_process

    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch_model(tracking, str(version), Path(scratch))
        weights_mib = (folder / WEIGHTS_FILE).stat().st_size / MIB
        cost = None
        if params.max_milliseconds is not None:
            prepare_process(runtime.threads)
            cost = measure_cost(Predictor.load(folder, device=inference_device(runtime.device)))
        return Footprint(TrainedModel.load(folder).parameters, weights_mib, cost)


def _ask(confirm: Callable[[str], bool], question: str, declined: Callable[[], None] = lambda: None) -> None:
    """Raise Declined unless the person says yes. Who breaks off has seen the test set as who says no."""
    try:
        agreed = confirm(question)
    except BaseException:
        declined()
        raise
    if not agreed:
        declined()
        raise Declined("declined; the champion stays")


def _settled(ledger: Ledger) -> Snapshot:
    """Read the ledger for a new decision, and print its problems. Raises UserError while another decision is made."""
    ledger.refuse_unless_signing()
    snapshot = ledger.settled()
    snapshot.refuse_forged()
    for problem in snapshot.problems():
        say(problem)
    for other in snapshot.open:
        raise UserError(
            f"decision {other.number} of {other.who} is being made since {other.when}; nothing was changed: look at "
            "`segops history` in a few minutes and run the command again"
        )
    return snapshot


def _show(decision: Decision, champion: int | None, compared: str) -> None:
    """Print what `compare` said, what the gate answered, and how often it has read the test set."""
    reads = decision.test_reads
    against = "no champion yet" if champion is None else f"against champion {champion}"
    say(f"version {decision.to_version} ({decision.candidate}), {against}:")
    words = {True: "passed", False: "FAILED", None: "shown "}
    for check in decision.checks:
        say(f"  {words[check.passed]}  {check.name}: {check.detail}")
    if compared:
        say(f"  compare  {compared}")
    many = "; after so many readings a small gain on it may be chance" if reads > _MANY_READS else ""
    say(f"The gate has read this test set {reads} time{'s' if reads > 1 else ''}, this one included{many}")


def _checked_reason(reason: str | None, override: str | None = None) -> str | None:
    """Return the reason to keep. Raises UserError for two reasons, an empty override or a text that is too long."""
    if override is not None and reason is not None:
        raise UserError("--override gives the reason already; leave out --reason")
    if override is not None and not override.strip():
        raise UserError('--override needs the reason that the ledger keeps: --override "why"')
    text, option = (override, "--override") if override is not None else (reason, "--reason")
    if text is not None and len(text) > _REASON_LENGTH:
        raise UserError(f"{option} has {len(text)} characters; at most {_REASON_LENGTH} fit into the ledger")
    return text


def _who() -> str:
    """Return who decides, as user@host."""
    from segops.tracking.runs import user

    return f"{user()}@{platform.node()}"
