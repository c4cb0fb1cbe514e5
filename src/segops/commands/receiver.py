"""Serves webhooks over HTTP: small requests of a single sender, each believed or refused, none of them trusted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from segops.errors import UserError
from segops.tracking.webhooks import Event, Inbox, Refused

_MAX_BYTES = 64 * 1024  # of a body; MLflow's events have a few hundred
_PATIENCE_S = 10.0  # for a request to arrive
_CONNECTIONS = 16  # at a time


@contextmanager
def receiver(
    address: tuple[str, int], inbox: Inbox, deliver: Callable[[Event], None], state: Callable[[], dict[str, Any]]
) -> Iterator[int]:
    """Answer `POST /` (a webhook) and `GET /health` in threads while the block runs; yields the port.

    Args:
        address: where to listen; port 0 takes any free port.
        deliver: receives what was believed, in the thread of the request.
        state: what `/health` says.

    Raises:
        UserError: the address can't be had.
    """
    try:
        server = _Server(address, inbox, deliver, state)
    except OSError as error:
        where = f"{address[0]}:{address[1]}"
        raise UserError(f"can't listen on {where} ({error.strerror}); change watch.bind or watch.port") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(
        self,
        address: tuple[str, int],
        inbox: Inbox,
        deliver: Callable[[Event], None],
        state: Callable[[], dict[str, Any]],
    ) -> None:
        self.inbox, self.deliver, self.state = inbox, deliver, state
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, as long as there are few; a connection too many is closed."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away, or sends nothing."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S
    server_version, sys_version = "segops", ""

    def do_GET(self) -> None:
        """Answer `/health`: whether it runs, and what it saw last."""
        if self.path == "/health":
            self._answer(200, self.server.state())
        else:
            self._answer(404, {"error": "there is /health, and POST / for webhooks"})

    def do_POST(self) -> None:
        """Take a webhook: believe or refuse it."""
        try:
            event = self.server.inbox.accept(self.headers, self._body())
        except Refused as refused:
            self._answer(refused.status, {"error": str(refused)})
            return
        self.server.deliver(event)
        self._answer(200, {"received": event.kind})

    def _body(self) -> bytes:
        """Read the request's body. Raises Refused where its length isn't said, is too much or isn't true."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or self.headers.get("Transfer-Encoding"):
            raise Refused(411, "the length of the body must be said")
        if len(length) > len(str(_MAX_BYTES)) or int(length) > _MAX_BYTES:
            raise Refused(413, f"a body has at most {_MAX_BYTES} bytes")
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            body = b""
        if len(body) != int(length):
            raise Refused(400, "the body is shorter than it says")
        return body

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        """Answer a request with a status and JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *given: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: what a stranger sends is no line of ours."""
