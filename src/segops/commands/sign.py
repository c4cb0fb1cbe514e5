"""Signs a ledger from before there were keys.

A person's command, once.
"""

from __future__ import annotations

from collections.abc import Callable

from segops.errors import UserError
from segops.params.tracking import TrackingParams


def sign(tracking: TrackingParams, *, confirm: Callable[[str], bool]) -> int:
    """Sign the entries that count and aren't signed; return how many.

    Args:
        confirm: asked once; who says yes has compared the entries with what they know.

    Raises:
        UserError: the chain of entries is broken, this process has no key that is believed, its account may not change
            entries, or `confirm` said no.
    """
    from segops.tracking import store
    from segops.tracking.ledger import Ledger

    client = store.client(tracking)
    with store.answering():
        unkeyed = Ledger(client, tracking.of_runs).settled()
        if damages := unkeyed.damages():
            raise UserError(f"nothing was signed: {damages[0]}")
        ledger = Ledger(client, tracking)
        ledger.refuse_unless_signing()
        last = unkeyed.moves[-1].title if unkeyed.moves else "no decision"
        if not confirm(f"Vouch for {len(unkeyed.decisions)} entries about '{tracking.model_name}', up to {last}?"):
            raise UserError("declined; nothing was signed")
        return ledger.sign(ledger.read())
