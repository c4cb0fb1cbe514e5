"""What an error of MLflow, its HTTP client or its database says: nobody answers, we are refused, or a status."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import urlsplit

_REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_AWAY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
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
    r"not a database|malformed": "the file is not a database; move it away",
}


def is_away(error: BaseException) -> bool:
    """Tell whether the store or the connection to it failed; any other error is a bug."""
    from requests import RequestException

    return answer_lost(error) or isinstance(error, RequestException)


def answer_lost(error: BaseException) -> bool:
    """Tell whether a failed request may have been carried out: the connection broke, or the server had an error."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import DatabaseError

    if isinstance(error, RequestException):
        return (status(error) or 500) >= 500
    return isinstance(error, DatabaseError) or (isinstance(error, MlflowException) and error.error_code in _AWAY)


def is_broken(error: BaseException) -> bool:
    """Tell whether the database is broken, so that a retry can't help; passing faults are OperationalErrors."""
    from sqlalchemy.exc import DatabaseError, OperationalError

    return isinstance(error, DatabaseError) and not isinstance(error, OperationalError)


def is_refused(error: BaseException) -> bool:
    """Tell whether the server refused us because the account is unknown or lacks the permission."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in _REFUSED


def status(error: BaseException) -> int | None:
    """Read the HTTP status that an error is about from its text; return None if there was no answer."""
    found = _STATUS.search(str(error))
    return next(int(group) for group in found.groups() if group) if found else None


def answer(error: BaseException, status: int, uri: str) -> str:
    """Describe an HTTP status, with the last line of the server's message, which has the cause, if there is one."""
    phrase = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    response = getattr(error, "response", None)
    try:
        message = str(response.json()["message"]) if response is not None else ""
    except (ValueError, KeyError, TypeError):  # the answer of a proxy before the server
        message = ""
    cause = without_secret(message.strip().rpartition("\n")[2], uri)[:300]
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
    """Remove the user name and password of a URI from a text."""
    secret = urlsplit(uri).netloc.rpartition("@")[0]
    return text.replace(f"{secret}@", "") if secret else text
