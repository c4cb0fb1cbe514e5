"""Knows what in a text is a secret: logins and tokens in URLs, which must not be stored, shown, or sent in the open.

A param keeps `${NAME}` in the place of a secret; the environment variable is read where the request is made.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

ALLOW_HTTP = "SEGOPS_ALLOW_HTTP"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>|`]+")
_LOGIN = re.compile(r"(?<=://)([^/?#\s@]*@)+")
_QUERY = re.compile(r"(?<=[?&;#])([^=&;#?\s]{1,64})=([^&;#\s'\"<>|`,)]+)")
_SECRET_KEY = re.compile(
    r"sig(nature)?$|token|passw|pwd|secret|credential|api.?key|access.?key|^key$|^auth|^code$|private|session|jwt|share.?(id|link)",
    re.IGNORECASE,
)
_PLAIN_KEY = re.compile(r"version|generation|sha|md5|hash|rev|commit|file|name|path|workflowtype|state", re.IGNORECASE)
_RANDOM = re.compile(r"(?=\S*[0-9])(?=\S*[A-Za-z])[A-Za-z0-9%+/=_.~-]{20,}")
_PAIRS = re.compile(r"(?i)\b(AccountKey|SharedAccessSignature|SharedAccessKey|Password|Pwd)=([^;\s]+)")
PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER_ALONE = ("ssh", "git+ssh", "sftp", "postgresql", "mysql", "dvc")  # there a user without a password is no secret
_INSIDE = (".svc", ".cluster.local", ".localhost")  # a cluster's or a machine's own network


def without_secrets(text: str) -> str:
    """Return a text without the logins in its URLs, and with `***` for tokens and signatures."""
    for secret in sorted(secrets_in(text), key=len, reverse=True):
        text = text.replace(secret, "" if secret.endswith("@") else "***")
    return text


def holds_secret(text: str) -> bool:
    """Return whether a text holds a login or a token in the clear; `${NAME}` is none."""
    return any(not PLACEHOLDER.fullmatch(secret.removesuffix("@").rpartition(":")[2]) for secret in secrets_in(text))


def secrets_in(text: str) -> Iterator[str]:
    """Yield each part of a text that is a secret: a login with its `@`, or a value."""
    for found in _PAIRS.finditer(text):
        yield found[2]
    for url in _URL.findall(text):
        for login in _LOGIN.finditer(url):
            scheme = url[: login.start()].removesuffix("://").rpartition("://")[2]
            if ":" in login[0] or not scheme.startswith(_USER_ALONE):
                yield login[0]
        for key, value in _QUERY.findall(url):
            random = _RANDOM.fullmatch(value) and not _PLAIN_KEY.search(key)
            if _SECRET_KEY.search(unquote(key)) or random:
                yield value


def refuse_secrets(values: Mapping[str, Any]) -> None:
    """Refuse texts that hold a secret, which git, dvc.lock and runs would keep. Raises ValueError naming the key."""
    for key, value in values.items():
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        for text in inner:
            if isinstance(text, str) and holds_secret(text):
                raise ValueError(
                    f"'{key}' holds a password or a token, which git and runs would keep; put it into an environment "
                    "variable and write ${NAME} in its place in a source (or a login into ~/.netrc)"
                )


def channel_fault(url: str, secret: str | None) -> str | None:
    """Say why a secret must not be sent there: to another machine over plain http anybody on the way reads it.

    Args:
        url: where it would be sent.
        secret: what it is, in words; None: there is none.

    Returns: None where it may: this machine, the cluster's own network, https, or SEGOPS_ALLOW_HTTP is 1.
    """
    parts = urlsplit(url)
    if secret is None or parts.scheme != "http" or os.environ.get(ALLOW_HTTP) == "1":
        return None
    host = parts.hostname or ""
    if _loopback(host) or not re.search("[.:]", host) or host.endswith(_INSIDE):
        return None
    return (
        f"{without_secrets(url)}: {secret} would be sent unencrypted; use https://, or set {ALLOW_HTTP}=1 if the "
        "network is yours"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
