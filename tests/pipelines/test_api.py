"""How often and how patiently a cluster is asked, and what of a log is kept."""

from __future__ import annotations

import pytest

from pipelines.api import Api, Away, Login
from segops.errors import UserError
from tests.support.run_api import RunApi

pytest_plugins = ["tests.support.run_api"]


@pytest.fixture
def api() -> RunApi:
    return RunApi()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause, which isn't made."""
    asleep: list[float] = []
    monkeypatch.setattr("pipelines.api.time.sleep", asleep.append)
    return asleep


def away() -> None:
    raise Away("no answer")


def test_a_question_is_put_five_times_with_pauses_that_double(host: str, pauses: list[float]) -> None:
    with pytest.raises(UserError, match="no answer"):
        Api(Login(host), pause_s=2.0).ask(away)
    assert pauses == [2.0, 4.0, 8.0, 16.0]


def test_what_must_not_be_put_twice_is_put_once(host: str, pauses: list[float]) -> None:
    with pytest.raises(UserError, match="no answer"):
        Api(Login(host)).once(away)
    assert pauses == []


def test_a_lost_connection_is_asked_for_at_least_once_a_minute(host: str, pauses: list[float]) -> None:
    asked = iter(range(9))

    def back_after_eight() -> str:
        if next(asked) < 8:
            away()
        return "answer"

    assert Api(Login(host), pause_s=2.0).ask_for(back_after_eight, patience_s=3600) == "answer"
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_of_a_log_the_last_64_kib_are_kept(api: RunApi, host: str) -> None:
    api.logs["pod"] = "x" * 2**16 + "y" * (2**16 - 5) + "\nend\n"
    assert Api(Login(host)).log("run", "pod") == ["y" * (2**16 - 5), "end"]
