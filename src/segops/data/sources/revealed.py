"""Fills the secrets of a source's URI in where it is asked for, and keeps them out of what is said about it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from segops.errors import UserError, reworded
from segops.secrets import PLACEHOLDER, channel_fault, secrets_in, without_secrets


@contextmanager
def revealed(uri: str) -> Iterator[str]:
    """Yield a URI with `${NAME}` replaced by environment variables; no line about the block tells its secrets.

    Raises: UserError: a variable that isn't set, or a secret that would be sent over plain http.
    """
    whole = PLACEHOLDER.sub(_value, uri)
    told = list(secrets_in(whole))
    address = whole.removeprefix("dvc://")
    try:
        fault = channel_fault(address, "its login or token" if told else None)
    except ValueError as error:
        raise UserError(f"ingest.source: {without_secrets(uri)}: not a URL ({error}); correct it") from None
    if fault is not None:
        raise UserError(fault)
    with reworded(partial(_untold, told)):
        yield whole


def _untold(secrets: Sequence[str], text: str) -> str:
    """Return a text without secrets."""
    text = without_secrets(text)
    for secret in secrets:
        for part in (secret, secret.removesuffix("@").partition(":")[2]):
            text = text.replace(part, "***") if len(part) > 3 else text
    return text


def _value(found: re.Match[str]) -> str:
    if not os.environ.get(found[1]):
        raise UserError(f"{found[0]} in a source: the environment variable {found[1]} isn't set; set it")
    return os.environ[found[1]]
