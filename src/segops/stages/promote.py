"""promote, rollback, history: who is the champion, who decided it, and why. A person's commands, not graph stages."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.params.project import PromoteParams, TrackingParams
from segops.progress import say

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from segops.tracking.ledger import Check, Decision, Ledger
    from segops.tracking.registry import Evidence

_REASON_LENGTH = 1000
_LINE_WIDTH = 140  # of a file or a pipe, characters


class GateRefused(UserError):  # noqa: N818 - a refusal is an answer, no error
    """A check of the gate failed; the command line exits with 3."""

    exit_code = 3


class Declined(UserError):  # noqa: N818
    """The person said no."""


def promote(
    version: str,
    params: PromoteParams,
    tracking: TrackingParams,
    *,
    confirm: Callable[[str], bool],
    reason: str | None = None,
    who: str | None = None,
) -> Decision:
    """Make a version the champion when it passes the gate and `confirm` says yes; the ledger gets it all.

    Args:
        version: a version number, or an alias such as `challenger`.
        confirm: asked once, after the checks are shown.
        who: default: user@host.

    Raises:
        GateRefused: a check failed; the refusal is in the ledger, since the test set was read.
        Declined: `confirm` said no.
        UserError: no such version, it is the champion already, MLflow is away, or somebody else was first.
    """
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    _check_reason(reason)
    client = store.client()
    with store.answering():
        ledger = Ledger(client, tracking)
        decision = _judged(client, ledger, version, params)
        decision = decision.model_copy(update={"who": who or _who(), "reason": reason})
        failed = [f"{check.name} ({check.detail})" for check in decision.checks if check.passed is False]
        if failed:
            ledger.append(decision.model_copy(update={"number": None, "action": "refused"}))
            raise GateRefused(f"the gate refused version {decision.to_version}: {'; '.join(failed)}")
        if not confirm(f"Make version {decision.to_version} the champion of '{tracking.model_name}'?"):
            ledger.append(decision.model_copy(update={"number": None, "action": "declined"}))
            raise Declined("declined; the champion stays")
        return _decide(client, ledger, decision)


def rollback(
    tracking: TrackingParams, *, confirm: Callable[[str], bool], reason: str | None = None, who: str | None = None
) -> Decision:
    """Restore the champion before the present one, as the ledger has it. Raises as `promote` does."""
    from segops.tracking import registry, store
    from segops.tracking.ledger import Decision, Ledger, now

    _check_reason(reason)
    client = store.client()
    with store.answering():
        ledger = Ledger(client, tracking)
        number, champion = _present(client, ledger)
        stack = ledger.champions()
        if champion is None or len(stack) < 2:
            raise UserError(f"'{tracking.model_name}' has no champion before the present one; see `segops history`")
        if stack[-1] != champion:
            raise UserError(
                f"the champion is version {champion}, but the ledger's last decision made it {stack[-1]}: the alias "
                "was moved by hand; promote the version that should stand"
            )
        before = registry.resolve(client, tracking.model_name, str(stack[-2]))
        if not confirm(f"Return '{tracking.model_name}' from version {champion} to version {before.version}?"):
            raise Declined("declined; the champion stays")
        decision = Decision(
            number=number,
            action="rollback",
            model_name=tracking.model_name,
            from_version=champion,
            to_version=int(before.version),
            who=who or _who(),
            when=now(),
            reason=reason,
            weights_sha256=before.tags.get("weights_sha256"),
            test_sha256=before.tags.get("test_sha256"),
        )
        return _decide(client, ledger, decision)


def history(tracking: TrackingParams) -> list[Decision]:
    """Every decision and every refusal about the registered model, oldest first."""
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    client = store.client()
    with store.answering():
        return Ledger(client, tracking).entries()


def print_history(tracking: TrackingParams) -> None:
    """Print the ledger as a table on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    decisions = history(tracking)
    if not decisions:
        say(f"no decision about '{tracking.model_name}' yet; `segops promote challenger` makes the first")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("no.", "when (UTC)", "action", "champion"):
        table.add_column(name, no_wrap=True)
    for name in ("who", "checks", "test set read", "reason"):
        table.add_column(name)
    for one in decisions:
        table.add_row(*_history_row(one))
    console = Console()
    (console if console.is_terminal else Console(width=_LINE_WIDTH)).print(table)


def _history_row(one: Decision) -> tuple[str, ...]:
    failed = [check.name for check in one.checks if check.passed is False]
    passed = sum(check.passed is True for check in one.checks)
    verdict = f"failed: {', '.join(failed)}" if failed else f"{passed} passed" if one.checks else "-"
    moved = one.action in ("promote", "rollback")
    return (
        str(one.number or "-"),
        one.when[:16].replace("T", " "),
        one.action,
        f"{one.from_version or '-'} → {one.to_version}"
        if moved
        else f"{one.from_version or '-'} (not {one.to_version})",
        one.who,
        verdict,
        f"{one.test_reads}x" if one.test_reads else "-",
        one.reason or "-",
    )


def _judged(client: MlflowClient, ledger: Ledger, version: str, params: PromoteParams) -> Decision:
    """The promotion of a version, with the gate's answers, before anybody agreed to it."""
    from segops.stages.gate import judge
    from segops.tracking import registry
    from segops.tracking.ledger import Decision, now

    name = ledger.model_name
    number, champion = _present(client, ledger)
    wanted = registry.resolve(client, name, version)
    if int(wanted.version) == champion:
        raise UserError(f"version {champion} of '{name}' is the champion already")
    evidence = registry.evidence(client, wanted)
    held = registry.resolve(client, name, str(champion)) if champion is not None else None
    checks = judge(params, evidence, registry.evidence(client, held) if held is not None else None)
    _show(checks, evidence, champion)
    return Decision(
        number=number,
        action="promote",
        model_name=name,
        from_version=champion,
        to_version=evidence.version,
        who="",
        when=now(),
        checks=checks,
        weights_sha256=evidence.evaluation.weights_sha256,
        test_sha256=evidence.evaluation.test_sha256,
        test_reads=ledger.test_reads(evidence.evaluation.test_sha256) + 1,
    )


def _present(client: MlflowClient, ledger: Ledger) -> tuple[int, int | None]:
    """The number of the next decision and the champion, in this order: who is overtaken then fails to claim it."""
    from segops.tracking import registry

    ledger.settle(registry.alias(client, ledger.model_name, registry.CHAMPION))
    number = ledger.next_number()
    return number, registry.alias(client, ledger.model_name, registry.CHAMPION)


def _decide(client: MlflowClient, ledger: Ledger, decision: Decision) -> Decision:
    """Claim the number, then move the alias; the entry counts from the moment the alias has moved."""
    from segops.tracking import registry

    assert decision.number is not None
    decision = decision.model_copy(update={"number": ledger.claim(decision.number)})
    champion = registry.alias(client, decision.model_name, registry.CHAMPION)
    if champion != decision.from_version:
        raise UserError(f"the champion became version {champion} meanwhile; nothing was changed: run the command again")
    entry = ledger.open(decision)
    try:
        registry.set_alias(client, decision.model_name, registry.CHAMPION, decision.to_version)
    except BaseException:
        ledger.close(entry, done=False)
        raise
    ledger.close(entry)
    return decision


def _show(checks: list[Check], evidence: Evidence, champion: int | None) -> None:
    against = "no champion yet" if champion is None else f"against champion {champion}"
    say(f"version {evidence.version} ({evidence.evaluation.candidate}), {against}:")
    words = {True: "passed", False: "FAILED", None: "shown "}
    for check in checks:
        say(f"  {words[check.passed]}  {check.name}: {check.detail}")


def _check_reason(reason: str | None) -> None:
    if reason is not None and len(reason) > _REASON_LENGTH:
        raise UserError(f"--reason has {len(reason)} characters; at most {_REASON_LENGTH} fit into the ledger")


def _who() -> str:
    from segops.tracking.runs import user

    return f"{user()}@{platform.node()}"
