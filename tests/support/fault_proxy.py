"""An HTTP proxy before a server that breaks the requests it is told to: answers lost, requests refused or held back."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["answer lost", "hung up", "delayed", "401", "403", "404", "429", "500", "503", "login page"]
FAULTS: tuple[Fault, ...] = ("answer lost", "hung up", "503", "delayed")
_ANSWERS: dict[str, tuple[int, bytes]] = {
    **{status: (int(status), b"no server today") for status in ("401", "403", "404", "429", "500", "503")},
    "login page": (200, b"<!DOCTYPE html><html><title>Sign in</title></html>"),
}  # that the proxy gives alone
Answer = tuple[int, list[tuple[str, str]], bytes]
_DELAY_S = 1.0
_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "host")


@dataclass
class Rule:
    """What becomes of requests.

    Attributes:
        method, path: of the requests that it is for; `path` is what the URL's path ends with.
        fault: `answer lost`: the server gets the request, and the connection is cut instead of its answer;
            `hung up`: cut before the server gets it; `delayed`: a second late; a status or a `login page`: answered
            by the proxy alone.
        times: how many of them.
        before, after: called when such a request came, and when the server has answered it.
        change: makes another answer, status and headers and body, of the server's.
    """

    method: str
    path: str
    fault: Fault | None = None
    times: int = 1
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    change: Callable[[Answer], Answer] | None = None


@dataclass
class FaultProxy:
    """Forwards to 127.0.0.1:`target`; `seen` lists method and path of every request."""

    target: int
    rules: list[Rule] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    uri: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: list[socket.socket] = field(default_factory=list)

    def rule_for(self, method: str, path: str) -> Rule | None:
        """The rule that a request falls under, used up by once."""
        plain = path.partition("?")[0]
        with self.lock:
            self.seen.append((method, plain))
            for rule in self.rules:
                if rule.times > 0 and rule.method == method and plain.endswith(rule.path):
                    rule.times -= 1
                    return rule
        return None


@contextmanager
def fault_proxy(target: int, *rules: Rule) -> Iterator[FaultProxy]:
    """A running proxy before the server on a port of this machine."""
    proxy = FaultProxy(target, list(rules))

    class Handler(_Handler):
        state = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        for connection in proxy.connections:  # kept alive, each by a thread
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    state: FaultProxy
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.state.connections.append(self.connection)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        rule = self.state.rule_for(self.command, self.path)
        fault = rule.fault if rule else None
        if rule and rule.before:
            rule.before()
        if fault == "hung up":
            self._cut()
            return
        if fault in _ANSWERS:
            status, content = _ANSWERS[fault]
            self._answer(status, [], content)
            return
        if fault == "delayed":
            time.sleep(_DELAY_S)
        status, headers, content = self._forwarded(body)
        if rule and rule.after:
            rule.after()
        if fault == "answer lost":
            self._cut()
            return
        if rule and rule.change:
            status, headers, content = rule.change((status, headers, content))
        self._answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle

    def _forwarded(self, body: bytes) -> Answer:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        connection = http.client.HTTPConnection("127.0.0.1", self.state.target, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        with suppress(OSError):  # whoever asked may be dead
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in (*_HOP, "date", "server"):
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def _cut(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()
