"""What stands at MLflow's address may be anything: each answer has words of its own, with the fix that helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from segops.errors import TRY_AGAIN, OneLineError, UserError
from segops.tracking import store
from tests.support.remote_servers import QuietHandler, answer, serve

_HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>"
_LOGIN = "answers with a page that isn't MLflow's, perhaps a login"


@contextmanager
def _answering(status: int, body: bytes, *, healthy: bool = False) -> Iterator[str]:
    """A server that gives one answer to everything, but perhaps to the question after its health."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer(self, *((200, b"OK") if healthy and self.path == "/health" else (status, body)))

        do_POST = do_GET

    with serve(Handler) as url:
        yield url


def _plugin_said(code: str, message: str) -> bytes:
    """As MLflow's plugin for Kubernetes says it."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()


def _said(error_code: str, message: str) -> bytes:
    return json.dumps({"error_code": error_code, "message": message}).encode()


@pytest.mark.parametrize("healthy", [True, False], ids=["behind a health page", "everywhere"])
@pytest.mark.parametrize(
    ("status", "body", "words", "code"),
    [
        (401, _HTML, "answers 401 Unauthorized; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to", 1),
        (401, _said("UNAUTHENTICATED", "who?"), "answers 401 Unauthorized (who?); set MLFLOW_TRACKING_USERNAME", 1),
        (403, _HTML, "answers 403 Forbidden; this account lacks the right", 1),
        (403, _said("PERMISSION_DENIED", "no"), "answers 403 Forbidden (no); this account lacks the right", 1),
        (401, _plugin_said("UNAUTHENTICATED", "who?"), "answers 401 Unauthorized (who?); set MLFLOW_TRACKING_USER", 1),
        (403, _plugin_said("PERMISSION_DENIED", "no"), "answers 403 Forbidden (no); this account lacks the right", 1),
        (404, _HTML, "answers 404 Not Found; there is no MLflow at this address", 1),
        (407, _HTML, "answers 407 Proxy Authentication Required; the proxy on the way", 1),
        (429, _HTML, "answers 429 Too Many Requests; the server has too many requests: wait", TRY_AGAIN),
        (429, _said("REQUEST_LIMIT_EXCEEDED", "slow"), "answers 429 Too Many Requests", TRY_AGAIN),
        (500, b"oops", "answers 500 Internal Server Error; see the server's log", TRY_AGAIN),
        (502, _HTML, "answers 502 Bad Gateway; a proxy answers, and MLflow behind it doesn't", TRY_AGAIN),
        (503, _HTML, "answers 503 Service Unavailable; it is overloaded or starts just now", TRY_AGAIN),
        (504, _HTML, "answers 504 Gateway Timeout; a proxy answers", TRY_AGAIN),
        (200, _HTML, _LOGIN, 1),
    ],
)
def test_each_answer_has_its_own_fix(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, words: str, code: int, healthy: bool
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

    with _answering(status, body, healthy=healthy) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(OneLineError) as caught:
            store.client()
    assert str(caught.value).startswith(f"MLflow at {uri} {words}")
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert "make ui" not in str(caught.value)


@pytest.mark.parametrize("body", [b'{"hello": 1}', b"", b"OK, but another server's"])
def test_another_server_is_not_taken_for_mlflow(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    with _answering(200, body) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match=_LOGIN):
            store.client()
