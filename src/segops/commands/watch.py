"""Watches the alias `champion`: a process that looks at every webhook and every minute.

A person starts it once.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from segops.errors import OneLineError, UserError
from segops.params.tracking import TrackingParams
from segops.params.watch import WatchParams

if TYPE_CHECKING:
    from segops.tracking.watch import Finding
    from segops.tracking.webhooks import Event

DISAGREES = 5  # the exit code of `--once`
_WAITING = 1000  # events that may wait; a single look answers them all
_AGAIN_S = 5.0  # after a look that failed, or a move that somebody else's decision held up
_LATE = 3  # looks that may be missed before `/health` says so

Say = Callable[[dict[str, Any]], None]


def watch(params: WatchParams, tracking: TrackingParams, *, say: Say, once: bool = False) -> Finding | None:
    """Look at the alias now, at every webhook and every `every_s`; say a line per change, event and action.

    Args:
        say: receives each line as a map that JSON can hold.
        once: look once, act, and return what was found.

    Raises:
        TryAgainError: with `once`, MLflow is away.
        UserError: the webhooks' address can't be had.
    """
    watcher = _Watcher(params, tracking, say)
    if once:
        return watcher.turn(weights=True)
    with _listening(params, watcher):
        say({"status": "started", "text": watcher.shown})
        watcher.run()
    return None


def register_webhook(url: str) -> bool:
    """Have MLflow post its registry's events to `url`; return whether the webhook is new. Raises UserError."""
    from segops.tracking import store, webhooks

    secret = webhooks.secret()
    if secret is None:
        raise UserError(f"set {webhooks.SECRET_VARIABLE}, with which MLflow signs; `openssl rand -hex 24` makes one")
    client = store.client()
    with store.answering():
        return webhooks.register(client, url, secret)


def line(status: dict[str, Any]) -> str:
    """Format a line of JSON with the time in UTC."""
    return json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **status}, ensure_ascii=False)


class _Watcher:
    """Looks and acts in a single thread; those of the HTTP server only leave events and read `state`."""

    def __init__(self, params: WatchParams, tracking: TrackingParams, say: Say) -> None:
        self._params, self._tracking, self._say = params, tracking, say
        self._events: queue.Queue[Event] = queue.Queue(_WAITING)
        self._last: dict[str, Any] = {}
        self._looked = time.monotonic()
        self._weights_at = -float("inf")
        self.port: int | None = None

    @property
    def shown(self) -> str:
        """What it does, in words, for its first line."""
        heard = f"webhooks at {self._params.bind}:{self.port}" if self.port else "no webhooks (no secret is set)"
        return (
            f"watching '{self._tracking.model_name}', action {self._params.action}, every {self._params.every_s:g} s, "
            f"{heard}"
        )

    def deliver(self, event: Event) -> None:
        """Take an event; called by the threads of the HTTP server."""
        with suppress(queue.Full):  # those that wait cause the same look
            self._events.put_nowait(event)

    def state(self) -> dict[str, Any]:
        """Return what `/health` says; `late` where looking has stopped."""
        age_s = time.monotonic() - self._looked
        late = age_s > _LATE * self._params.every_s + 60
        return {"late": late, "age_s": round(age_s, 1), **self._last}

    def run(self) -> None:
        """Look until the process is told to end."""
        pause_s = 0.0
        while True:
            events = self._wait(pause_s)
            due = time.monotonic() - self._weights_at >= self._params.weights_every_s
            pause_s = self._params.every_s
            try:
                self.turn(weights=bool(events) or due)
            except OneLineError as error:
                self._say_news({"status": "waiting", "text": str(error)})
                pause_s = min(_AGAIN_S, pause_s)

    def turn(self, *, weights: bool) -> Finding:
        """Look at the alias, and act on what was found."""
        from segops.tracking import store
        from segops.tracking.watch import look, revert

        client = store.client()
        finding = look(client, self._tracking, weights=weights)
        if weights:
            self._weights_at = time.monotonic()
        self._looked = time.monotonic()
        self._say_news(asdict(finding))
        if finding.status == "moved" and self._params.action == "revert" and finding.expected is not None:
            finding = revert(client, self._tracking)
            self._say_news(asdict(finding))
        return finding

    def _wait(self, pause_s: float) -> list[Event]:
        """Wait for events about our model, at most `pause_s`; return those that came."""
        events: list[Event] = []
        with suppress(queue.Empty):
            events.append(self._events.get(timeout=pause_s) if pause_s else self._events.get_nowait())
            while True:
                events.append(self._events.get_nowait())
        ours = [event for event in events if event.model_name == self._tracking.model_name]
        for event in ours:
            self._say({"status": "event", "text": event.shown})
        return ours

    def _say_news(self, status: dict[str, Any]) -> None:
        """Say a status, unless it is the last that was said."""
        if status != self._last:
            self._say(status)
        self._last = status


@contextmanager
def _listening(params: WatchParams, watcher: _Watcher) -> Iterator[None]:
    """Answer webhooks and `/health` where there is a secret."""
    from segops.commands.receiver import receiver
    from segops.tracking import webhooks

    secret = webhooks.secret()
    if secret is None:
        yield
        return
    address = (params.bind, params.port)
    with receiver(address, webhooks.Inbox(secret), watcher.deliver, watcher.state) as watcher.port:
        yield
