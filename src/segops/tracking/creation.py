"""Creating things at a server whose answers can get lost. MLflow would repeat the request, and so make two of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from segops.tracking.faults import answer_lost
from segops.tracking.store import unrepeated

MARK = "segops.mark"  # the tag by which a creation finds its own again
_ATTEMPTS = 3
_PAUSE_S = 0.5

_Created = TypeVar("_Created")


def create_once(create: Callable[[str], _Created], find: Callable[[str], _Created | None]) -> _Created:
    """Create something that carries a fresh mark exactly once, even if the server's answers get lost.

    A request whose answer is lost may have been carried out; only when nothing bears its mark is it sent again.

    Args:
        create: sends the one request, with the mark as tag `MARK`.
        find: returns what bears a mark, or None.

    Raises: what `create` raised, when the server refuses or never answers.
    """
    mark, attempts = uuid.uuid4().hex, count(1)
    while True:
        try:
            with unrepeated():
                return create(mark)
        except Exception as error:
            if not answer_lost(error):
                raise
            time.sleep(_PAUSE_S)
            if (created := find(mark)) is not None:
                return created
            if next(attempts) == _ATTEMPTS:
                raise
