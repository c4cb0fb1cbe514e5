"""MLflow's registry webhooks: made at a server, and a delivery checked against its signature, its age and a replay.

MLflow 3.17 (mlflow/webhooks/delivery.py) posts `{entity, action, timestamp, data}` with X-MLflow-Delivery-Id,
X-MLflow-Timestamp (unix seconds) and X-MLflow-Signature: `v1,` and the base64 of HMAC-SHA256 over
`<delivery id>.<timestamp>.<body>`. A lost answer and the statuses 429 and 5xx are repeated three times as they were.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.files import parse_json
from segops.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECRET_VARIABLE = "SEGOPS_WEBHOOK_SECRET"  # noqa: S105 - a name, no secret
MAX_AGE_S = 300.0  # of a delivery; MLflow's three repetitions take less, and clocks differ a little
_NAME = "segops-watch"
_SHORTEST = 16  # characters of a secret
# What may change which weights `champion` names.
EVENTS = (
    ("model_version_alias", "created"),
    ("model_version_alias", "deleted"),
    ("model_version_tag", "set"),
    ("model_version_tag", "deleted"),
)


class Refused(Exception):  # noqa: N818 - an answer, no error
    """Raised for a delivery that isn't believed. `status` is the HTTP status to answer with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Event:
    """Holds what a delivery says."""

    kind: str  # such as `model_version_alias.created`
    model_name: str
    data: Mapping[str, str]

    @property
    def shown(self) -> str:
        """Describe the event in one line, with everything that a sender could have made long cut."""
        told = ", ".join(f"{name} {self.data[name][:100]}" for name in ("alias", "version", "key") if name in self.data)
        return f"{self.kind}: {told}"


@dataclass
class Inbox:
    """Checks deliveries and accepts each one once. Threads may share it."""

    secret: str
    _seen: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, headers: Mapping[str, str] | Message, body: bytes, now_s: float | None = None) -> Event:
        """Check a delivery's signature, age and novelty, and return its event.

        Args:
            headers: any mapping that knows the three names above.
            now_s: unix seconds; default: now.

        Raises:
            Refused: not signed with the secret, too old, from the future, seen before, or no event of MLflow's.
        """
        now_s = time.time() if now_s is None else now_s
        delivery, stamp = headers.get("X-MLflow-Delivery-Id") or "", headers.get("X-MLflow-Timestamp") or ""
        expected = signature(self.secret, delivery, stamp, body)
        given = headers.get("X-MLflow-Signature") or ""
        if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape")):
            raise Refused(401, "not signed with this secret")
        # What follows was written by who knows the secret.
        if not (stamp.isascii() and stamp.isdigit()) or abs(now_s - int(stamp)) > MAX_AGE_S:
            raise Refused(401, f"older than {MAX_AGE_S:.0f} s, or a clock is wrong")
        event = _parsed(body)
        with self._lock:
            self._seen = {seen: s for seen, s in self._seen.items() if now_s - s <= 2 * MAX_AGE_S}
            if delivery in self._seen:
                raise Refused(409, "this delivery came before")
            self._seen[delivery] = now_s
        return event


def signature(secret: str, delivery: str, stamp: str, body: bytes) -> str:
    """Compute the signature that MLflow puts into X-MLflow-Signature."""
    signed = f"{delivery}.{stamp}.".encode("utf-8", "surrogateescape") + body
    return f"v1,{base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()}"


def _parsed(body: bytes) -> Event:
    """Parse a delivery's body into an event, or raise Refused with status 400."""
    try:
        said = parse_json(body)
        data = {name: value for name, value in said["data"].items() if isinstance(value, str)}
        return Event(f"{said['entity']}.{said['action']}", data["name"], data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused(400, "no event of MLflow's registry") from None


def secret() -> str | None:
    """Return the secret in SEGOPS_WEBHOOK_SECRET, or None if unset. Raises UserError if it is too short."""
    given = os.environ.get(SECRET_VARIABLE, "").strip()
    if given and len(given) < _SHORTEST:
        raise UserError(f"{SECRET_VARIABLE} has fewer than {_SHORTEST} characters; `openssl rand -hex 24` makes one")
    return given or None


def register(client: MlflowClient, url: str, secret: str) -> bool:
    """Have the server post the registry's events to `url`, signed with `secret`; return whether the webhook is new.

    Raises:
        UserError: the server refuses the address or this account, or there is no server.
    """
    from mlflow.entities.webhook import WebhookEvent, WebhookStatus
    from mlflow.exceptions import MlflowException

    if not store.is_remote(store.tracking_uri()):
        raise UserError("webhooks come from a server: set MLFLOW_TRACKING_URI; without one `segops watch` polls")
    events = [WebhookEvent(entity, action) for entity, action in EVENTS]
    try:
        there = [
            webhook
            for webhook in client.list_webhooks(max_results=1000)
            if webhook.name == _NAME and webhook.url == url
        ]
        for webhook in there:
            client.update_webhook(webhook.webhook_id, events=events, secret=secret, status=WebhookStatus.ACTIVE)
        if not there:
            client.create_webhook(_NAME, url, events, description="the alias `champion`, watched", secret=secret)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise UserError(
            f"MLflow doesn't take {url} for a webhook ({' '.join(error.message.split())[:200]}); a server in a private "
            "network needs MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https and MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true"
        ) from None
    return not there
