"""Asks Kubeflow's API through kfp's client; what fails there is a UserError here."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from segops.errors import UserError
from segops.progress import say
from segops.secrets import channel_fault

T = TypeVar("T")

_PASSING = {429, 500, 502, 503, 504}
_TRIES = 5
_LONGEST_PAUSE_S = 60.0
_LOG = "/apis/v1alpha1/runs/{run}/nodes/{node}/log"
_TAIL_BYTES = 2**16  # of a log that are read for its last lines
_LOGIN = "it wants a login; set KFP_TOKEN or pass --token-file"
_REFUSALS = {
    0: "no TLS connection ({reason}); correct --host, or let this machine trust the server's certificate",
    302: _LOGIN,
    400: "it refuses the request ({reason}); see that the cluster runs Kubeflow Pipelines 2.17 or newer",
    401: _LOGIN,
    403: "this account may not do that{where}; ask for the role that runs pipelines there",
    404: "it doesn't know that ({reason}); correct --host and --namespace, or the run's id",
    409: "it has that already ({reason}); submit under another name",
}


@dataclass(frozen=True)
class Login:
    """How to reach a cluster.

    Attributes:
        host: URL of the pipelines' API.
        namespace: of experiments and runs in a multi-user deployment; None in a single-user deployment.
        token: bearer token, or None.
        token_file: file of a service account's token, read anew for each request, or None.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    token_file: Path | None = None


class Api:
    """kfp's client, whose errors are a UserError each. What a server can't do right now is asked again."""

    def __init__(self, login: Login, *, pause_s: float = 2.0) -> None:
        told = "KFP_TOKEN" if login.token else "the token of --token-file" if login.token_file else None
        if (fault := channel_fault(login.host, told)) is not None:
            raise UserError(fault)
        self.login, self.pause_s = login, pause_s
        self.client = _client(login)

    def ask(self, question: Callable[[], T]) -> T:
        """Ask a question, up to 5 times where no answer comes; return the answer."""
        for pause in range(_TRIES - 1):
            try:
                return self._put(question)
            except Away:
                time.sleep(self.pause_s * 2**pause)
        return self.once(question)

    def once(self, question: Callable[[], T]) -> T:
        """Ask a question that must not be put twice; return the answer. Raises UserError where none comes."""
        try:
            return self._put(question)
        except Away as error:
            raise UserError(f"{self.login.host}: {error}") from None

    def ask_for(self, question: Callable[[], T], patience_s: float) -> T:
        """Ask a question until it is answered, waiting for a lost connection; say when that begins and ends."""
        lost: float | None = None
        pause_s = self.pause_s
        while True:
            try:
                answer = self._put(question)
            except Away as error:
                if lost is None:
                    lost = time.monotonic()
                    say(f"{self.login.host}: {error}; the run goes on, waiting for the API")
                elif time.monotonic() - lost > patience_s:
                    raise UserError(f"{self.login.host}: {error}, for {patience_s / 3600:.1f} hours") from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                if lost is not None:
                    say(f"{self.login.host} answers again, after {time.monotonic() - lost:.0f} s")
                return answer

    def log(self, run_id: str, node: str) -> list[str]:
        """Return the last lines of a pod's log; none where the API has none (the pod isn't there yet, or any more)."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        calls = self.client._run_api.api_client
        try:
            answer = calls.call_api(
                _LOG, "GET", {"run": run_id, "node": node}, auth_settings=["Bearer"], _preload_content=False
            )
            tail = b""
            for piece in answer.stream(_TAIL_BYTES):
                tail = (tail + piece)[-_TAIL_BYTES:]
        except (ApiException, HTTPError):
            return []
        return tail.decode(errors="replace").splitlines()

    def _put(self, question: Callable[[], T]) -> T:
        """Ask once; what fails becomes a UserError, or Away."""
        with self._explained():
            return question()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what kfp and urllib3 raise into a UserError, or into Away where asking again may help."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with redirect_stdout(io.StringIO()):  # kfp prints links of everything that it touches
                yield
        except ApiException as error:
            reason = " ".join(str(error.reason).split())
            if error.status in _PASSING:
                raise Away(f"the server answered {error.status} {reason}; see its log") from None
            where = f" in namespace {self.login.namespace}" if self.login.namespace else ""
            known = _REFUSALS.get(error.status, "the server answered {status} {reason}; see its log")
            text = known.format(reason=reason, status=error.status, where=where)
            raise UserError(f"{self.login.host}: {text}") from None
        except HTTPError:
            raise Away("no answer; correct --host, or see that the API is reachable from here") from None


class Away(Exception):  # noqa: N818 - a state, not an error
    """The server can't answer right now; the text says what it did instead."""


def _client(login: Login) -> Any:
    """Make kfp's client, without its slow health check and its own retries."""
    from kfp import client
    from urllib3 import Retry

    class Client(client.Client):
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:  # noqa: ARG002
            """Ask nothing: kfp's own asks for 25 s and hides why there is no answer."""
            return SimpleNamespace(multi_user=False)

        def _load_config(self, *positional: Any, **named: Any) -> Any:
            config = super()._load_config(*positional, **named)
            # Asking again is ours; urllib3 would print each of its tries.
            config.retries = Retry(None, connect=0, read=0, status=0, other=0, redirect=5)
            return config

    credentials = None
    if login.token_file is not None:
        credentials = client.ServiceAccountTokenVolumeCredentials(path=str(login.token_file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return Client(host=login.host, existing_token=login.token, credentials=credentials)
