"""What an error of MLflow, its HTTP client or its database says: nobody answers, we are refused, or a status."""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from segops.errors import OneLineError, TryAgainError, UserError, disk_full
from segops.secrets import without_secrets
from segops.tracking.own_store import broken

NOT_MLFLOW = "response body was not in a valid JSON format"  # mlflow's words, of any page
_REFUSED = {
    "UNAUTHENTICATED": 401,
    "CUSTOMER_UNAUTHORIZED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "REQUEST_LIMIT_EXCEEDED": 429,
    "RESOURCE_EXHAUSTED": 429,
}
_ANSWERS = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of your account there, or "
    "MLFLOW_TRACKING_TOKEN",
    403: "this account lacks the right: ask for it, or set MLFLOW_TRACKING_USERNAME (or MLFLOW_TRACKING_TOKEN, "
    "MLFLOW_WORKSPACE) to what has it",
    404: "there is no MLflow at this address, or an old one: correct MLFLOW_TRACKING_URI, its port and its path",
    407: "the proxy on the way wants to know you: set HTTPS_PROXY with its user and password, or NO_PROXY",
    429: "the server has too many requests: wait a minute and run the same command again",
    502: "a proxy answers, and MLflow behind it doesn't: start it there, then run the same command again",
    503: "it is overloaded or starts just now: wait a minute and run the same command again",
    504: "a proxy answers, and MLflow behind it is too slow: wait a minute and run the same command again",
}
_AWAY_FIX = "see that the server runs and that MLFLOW_TRACKING_URI is right, or unset that for the project's own store"
_AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
_NO_WORKSPACE = re.compile(r"(Workspace context|Active workspace) is required")
# Where mlflow's and requests' errors have the status of an answer.
_STATUS = re.compile(r"too many (\d{3}) error|failed with error code (\d{3})|^(\d{3}) (?:Client|Server) Error")
_REASONS = {
    r"refused": "connection refused",
    r"timed? ?out": "timed out",
    r"Name or service|NameResolution|getaddrinfo|nodename": "unknown host",
    r"certificate|SSL": "TLS certificate not accepted",
    r"reset by peer|RemoteDisconnected|Connection aborted": "connection lost",
    r"database is locked": "the database is locked",
    r"disk is full|No space": "the disk is full",
    r"readonly|read-only|unable to open": "the database file can't be written",
    r"not a database": "its first bytes are not a database's",
    r"malformed": "its pages contradict each other",
}


def is_away(error: BaseException) -> bool:
    """Tell whether the store or the connection to it failed; any other error is a bug."""
    from requests import RequestException

    return answer_lost(error) or isinstance(error, RequestException)


def answer_lost(error: BaseException) -> bool:
    """Tell whether a failed request may have been carried out: the connection broke, or the server had an error."""
    from requests import RequestException
    from sqlalchemy.exc import DatabaseError

    if isinstance(error, RequestException):
        return (status(error) or 500) >= 500
    return isinstance(error, DatabaseError) or _told(error)[0] in _AWAY


def is_broken(error: BaseException) -> bool:
    """Tell whether the database is broken, so that a retry can't help; passing faults are OperationalErrors."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    return isinstance(error, DatabaseError) and not isinstance(error, OperationalError)


def status(error: BaseException) -> int | None:
    """Read the HTTP status that an error is about from its text; return None if there was no answer."""
    found = _STATUS.search(str(error))
    return next(int(group) for group in found.groups() if group) if found else None


def may_pass(status: int) -> bool:
    """Tell whether the same request may be answered otherwise later, by the HTTP status of its answer."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def complaint(error: BaseException, uri: str) -> OneLineError | None:
    """Return the line about a store that is away, broken or full, or refuses us; None for what may be a bug of ours."""
    where = without_secret(uri, uri)
    path = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    if (full := disk_full(error, path or Path())) is not None:
        here = path is not None or isinstance(error, OSError)
        return full if here else TryAgainError(f"the disk of MLflow at {where} is full; free space there")
    if NOT_MLFLOW in str(error):
        return UserError(
            f"MLflow at {where} answers with a page that isn't MLflow's, perhaps a login or a proxy's; correct "
            "MLFLOW_TRACKING_URI, or get through with MLFLOW_TRACKING_TOKEN"
        )
    if _NO_WORKSPACE.search(str(error)):
        return UserError(f"MLflow at {where} keeps teams apart; set MLFLOW_WORKSPACE to your team's workspace")
    number = _REFUSED.get(_told(error)[0]) or status(error)
    if number is not None and (number in _ANSWERS or number >= 500):
        words = _ANSWERS.get(number, "see the server's log, then run the same command again")
        kind = TryAgainError if may_pass(number) else UserError
        return kind(f"MLflow at {where} answers {answer(error, number, uri)}; {words}")
    if path is not None and is_broken(error):
        return UserError(broken(path, reason(error, uri)))
    if not is_away(error):
        return None
    fix = _AWAY_FIX if path is None else "put that right and run the same command again"
    kind = UserError if is_broken(error) else TryAgainError
    return kind(f"MLflow at {where} does not answer ({reason(error, uri)}); {fix}")


def _told(error: BaseException) -> tuple[str, str]:
    """Return the name that MLflow has for an error, and its message; empty for an error that isn't MLflow's.

    Its plugin for Kubernetes answers `{"error": {"code", "message"}}`, which MLflow's client takes for an error within.
    """
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return "", ""
    body = getattr(error, "json", {})
    inner = body.get("error")
    if isinstance(inner, dict):
        return str(inner.get("code", "")), str(inner.get("message", ""))
    return error.error_code, str(body.get("message", ""))


def answer(error: BaseException, status: int, uri: str) -> str:
    """Describe an HTTP status, with the last line of the server's message, which has the cause, if there is one."""
    phrase = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    response = getattr(error, "response", None)
    message = _told(error)[1]
    with suppress(ValueError, KeyError, TypeError):  # the answer of a proxy before the server
        message = str(response.json()["message"]) if response is not None else message
    cause = without_secret(str(message).strip().rpartition("\n")[2], uri)[:300]
    return f"{phrase} ({cause})" if cause else phrase


def reason(error: BaseException, uri: str) -> str:
    """Describe why an error came, in a few words and without the credentials that the URI may carry."""
    for pattern, words in _REASONS.items():
        if re.search(pattern, str(error), re.IGNORECASE):
            return words
    return first_line(error, uri)


def first_line(error: BaseException, uri: str) -> str:
    """Return the first line of an error, at most 300 characters, without credentials."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return without_secret(line, uri)[:300]


def without_secret(text: str, uri: str) -> str:
    """Remove the user name and password of a URI, and any other secret in a URL, from a text."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    return without_secrets(text.replace(f"{secret}@", "") if secret else text)
