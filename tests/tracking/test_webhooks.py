"""A delivery is believed once, when it is signed and young; and whatever else comes in is refused in a few words."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from segops.commands.receiver import receiver
from segops.errors import UserError
from segops.tracking.webhooks import MAX_AGE_S, Event, Inbox, Refused, secret

SECRET = "of-the-tests-and-long"
BODY = json.dumps(
    {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "data": {"name": "nuclei", "alias": "champion", "version": "3"},
    }
).encode()
NOW_S = 1_767_323_045


def _headers(body: bytes = BODY, *, key: str = SECRET, delivery: str = "d-1", at_s: int = NOW_S) -> dict[str, str]:
    """What MLflow's own code puts before a body."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    signature = _generate_hmac_signature(key, delivery, str(at_s), body.decode())
    return {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": str(at_s), "X-MLflow-Signature": signature}


def test_what_mlflow_signed_is_believed() -> None:
    event = Inbox(SECRET).accept(_headers(), BODY, NOW_S)
    assert (event.kind, event.model_name) == ("model_version_alias.created", "nuclei")
    assert event.shown == "model_version_alias.created: alias champion, version 3"


@pytest.mark.parametrize(
    ("change", "at_s", "reason"),
    [
        ({"X-MLflow-Signature": "v1,AAAA"}, NOW_S, "not signed"),
        ({"X-MLflow-Signature": ""}, NOW_S, "not signed"),
        ({"X-MLflow-Signature": "v1,é\udcff"}, NOW_S, "not signed"),
        ({"X-MLflow-Timestamp": str(NOW_S + 1)}, NOW_S, "not signed"),  # the age is signed too
        ({"X-MLflow-Delivery-Id": "d-2"}, NOW_S, "not signed"),
        (_headers(key="another-secret-as-long"), NOW_S, "not signed"),
        ({}, NOW_S + MAX_AGE_S + 1, "older than 300 s"),
        ({}, NOW_S - MAX_AGE_S - 1, "or a clock is wrong"),
    ],
)
def test_what_is_not_signed_or_not_young_is_refused(change: dict[str, str], at_s: float, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        Inbox(SECRET).accept(_headers() | change, BODY, at_s)
    assert caught.value.status == 401


def test_another_body_is_refused_and_the_same_delivery_comes_once() -> None:
    inbox = Inbox(SECRET)
    with pytest.raises(Refused, match="not signed"):
        inbox.accept(_headers(), BODY.replace(b'"3"', b'"4"'), NOW_S)
    inbox.accept(_headers(), BODY, NOW_S)
    with pytest.raises(Refused, match="came before") as caught:
        inbox.accept(_headers(), BODY, NOW_S + MAX_AGE_S - 1)
    assert caught.value.status == 409  # MLflow repeats 429 and 5xx alone
    inbox.accept(_headers(delivery="d-2"), BODY, NOW_S)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"entity": 1}', b'{"entity": "a", "action": "b", "data": {"x": "y"}}', b"[" * 9000],
)
def test_a_signed_body_that_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="no event") as caught:
        Inbox(SECRET).accept(_headers(body), body, NOW_S)
    assert caught.value.status == 400


def test_a_short_secret_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGOPS_WEBHOOK_SECRET", "hush")
    with pytest.raises(UserError, match="fewer than 16 characters") as caught:
        secret()
    assert "hush" not in str(caught.value)
    monkeypatch.delenv("SEGOPS_WEBHOOK_SECRET")
    assert secret() is None


@pytest.fixture
def listening() -> Iterator[tuple[str, int, list[Event]]]:
    got: list[Event] = []
    with receiver(("127.0.0.1", 0), Inbox(SECRET), got.append, lambda: {"status": "agrees"}) as port:
        yield f"http://127.0.0.1:{port}", port, got


def _post(url: str, body: bytes = BODY, **given: Any) -> requests.Response:
    return requests.post(url, data=body, headers=_headers(body, at_s=int(time.time()), **given), timeout=10)


def test_the_server_takes_webhooks_and_tells_its_health(listening: tuple[str, int, list[Event]]) -> None:
    url, _, got = listening
    assert requests.get(f"{url}/health", timeout=10).json() == {"status": "agrees"}
    assert _post(url).json() == {"received": "model_version_alias.created"}
    assert [event.model_name for event in got] == ["nuclei"]
    assert _post(url).status_code == 409
    assert _post(url, key="another-secret-as-long").status_code == 401
    assert requests.get(url, timeout=10).status_code == 404
    assert requests.put(url, timeout=10).status_code == 501
    assert requests.post(url, data=b"x" * 65_537, timeout=10).status_code == 413
    assert requests.post(url, data=iter([b"x"]), timeout=10).status_code == 411
    assert len(got) == 1


def test_garbage_moves_nothing_and_says_nothing(
    listening: tuple[str, int, list[Event]], capfd: pytest.CaptureFixture[str]
) -> None:
    url, port, got = listening
    random_source = random.Random(0)
    post = b"POST / HTTP/1.1\r\n"
    starts = [
        b"",
        post,
        post + b"Content-Length: 9\r\n\r\n{",
        post + b"Content-Length: -1\r\n\r\n",
        post + b"Content-Length: 1e3\r\n\r\n",
        post + "Content-Length: \u0663\r\n\r\nabc".encode(),
        post + b"A: b\r\n" * 200 + b"\r\n",
        post + b"X-MLflow-Signature: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"POST " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
    ]
    for number in range(120):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(starts[number % len(starts)] + random_source.randbytes(number))
            if number % 3:
                line.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    line.recv(1000)
    assert requests.get(f"{url}/health", timeout=10).status_code == 200
    assert got == []
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_more_connections_than_it_answers_are_closed_and_the_next_is_served(
    listening: tuple[str, int, list[Event]],
) -> None:
    url, port, got = listening
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(40)]
    for one in held:
        one.close()
    for number in range(8):
        while len(got) == number:  # as MLflow does, until the server has seen that the others are gone
            with contextlib.suppress(requests.ConnectionError):
                _post(url, delivery=f"d-{number}")
    assert len(got) == 8


def test_a_taken_port_is_one_line(listening: tuple[str, int, list[Event]]) -> None:
    _, port, _ = listening
    with (
        pytest.raises(UserError, match=rf"can't listen on 127.0.0.1:{port} .*change watch.bind or watch.port"),
        receiver(("127.0.0.1", port), Inbox(SECRET), lambda event: None, dict),
    ):
        pass
