"""Creating a thing once at a server whose answers get lost."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from requests import ConnectionError as NoAnswer

from segops.tracking import creation
from segops.tracking.creation import create_once


class Server:
    """Things by their mark; of each request it says whether it is carried out and whether its answer arrives."""

    def __init__(self, *requests: tuple[bool, bool]) -> None:
        self.requests, self.things, self.marks = list(requests), dict[str, str](), list[str]()
        self.repeats: list[str | None] = []

    def create(self, mark: str) -> str:
        self.marks.append(mark)
        self.repeats.append(os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES"))
        done, answered = self.requests.pop(0) if self.requests else (True, True)
        if done:
            self.things[mark] = f"thing {len(self.things) + 1}"
        if not answered:
            raise NoAnswer("Connection aborted")
        return self.things[mark]

    def find(self, mark: str) -> str | None:
        return self.things.get(mark)


@pytest.fixture(autouse=True)
def pauses_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause was."""
    slept: list[float] = []
    monkeypatch.setattr(creation, "time", SimpleNamespace(sleep=slept.append))
    return slept


def test_an_answered_request_is_sent_once(pauses_s: list[float]) -> None:
    server = Server()
    assert create_once(server.create, server.find) == "thing 1"
    assert (len(server.marks), pauses_s, server.repeats) == (1, [], ["0"])  # mlflow itself repeats nothing


def test_what_a_lost_answer_created_is_found(pauses_s: list[float]) -> None:
    server = Server((True, False))
    assert create_once(server.create, server.find) == "thing 1"
    assert (len(server.marks), len(server.things), pauses_s) == (1, 1, [0.5])


def test_a_lost_request_is_sent_again_under_its_mark(pauses_s: list[float]) -> None:
    server = Server((False, False), (False, False))
    assert create_once(server.create, server.find) == "thing 1"
    assert (len(server.marks), len(set(server.marks)), pauses_s) == (3, 1, [0.5, 0.5])


def test_three_lost_requests_are_an_error() -> None:
    server = Server(*[(False, False)] * 9)
    with pytest.raises(NoAnswer):
        create_once(server.create, server.find)
    assert len(server.marks) == 3


def test_what_the_last_request_created_is_found_too() -> None:
    server = Server((False, False), (False, False), (True, False))
    assert create_once(server.create, server.find) == "thing 1"


def test_a_refusal_is_raised_at_once(pauses_s: list[float]) -> None:
    asked: list[str] = []

    def refuses(mark: str) -> str:
        asked.append(mark)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        create_once(refuses, lambda mark: "never looked for")
    assert (len(asked), pauses_s) == (1, [])
