"""What becomes of a decision when the request that moves the alias fails, over a real store whose answers get lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from requests import ConnectionError as NoAnswer

from segops.contracts.decision import Decision
from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.tracking import champion, registry, store
from segops.tracking import ledger as ledger_module
from segops.tracking.champion import move_champion
from segops.tracking.ledger import Ledger
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]

BEFORE, WANTED, FOREIGN = 1, 2, 3
OPEN = "decision 1 stays open, and `segops history` settles it"
Step = Callable[[], None]


@dataclass
class World:
    """A registered model of three versions whose champion is version 1, and an empty ledger.

    Attributes:
        requests: what becomes of each request to move the alias, in turn; then they are carried out.
        pauses_s: how long the program slept, each time.
        sent: how many requests to move the alias there were.
    """

    client: MlflowClient
    ledger: Ledger
    tracking: TrackingParams
    requests: list[Step] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    sent: int = 0

    def decide(self) -> Decision:
        """Make version 2 the champion."""
        decision = Decision(
            number=1, action="promote", model_name=self.ledger.model_name, from_version=BEFORE, to_version=WANTED,
            who="ann@lab", when="2026-01-02T03:04:05+00:00",
        )  # fmt: skip
        return move_champion(self.client, self.ledger, self.ledger.read(), decision, self.tracking)

    def put(self, version: int) -> None:
        """Move the alias without a word to anybody."""
        self.client.set_registered_model_alias(self.ledger.model_name, "champion", str(version))

    @property
    def state(self) -> tuple[int | None, list[str]]:
        """The alias, and the state of each entry as the store itself has it."""
        entries = self.ledger.read().entries
        return self.ledger.read().alias, [one.state if one.settled else "not closed" for one in entries]


@pytest.fixture
def world(file_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    tracking, client = own_names(), store.client()
    client.create_registered_model(tracking.model_name)
    for _ in range(3):
        client.create_model_version(tracking.model_name, source=tmp_path.as_uri())
    made = World(client, Ledger(client, tracking), tracking)
    made.put(BEFORE)
    move = registry.set_alias

    def requested(*given: Any) -> None:
        made.sent += 1
        if made.requests:
            made.requests.pop(0)()
        else:
            move(*given)

    monkeypatch.setattr(registry, "set_alias", requested)
    monkeypatch.setattr(champion, "time", SimpleNamespace(time=time.time, sleep=made.pauses_s.append))
    return made


def lost() -> None:
    raise NoAnswer("Connection aborted")


def refused() -> None:
    raise MlflowException("no such alias", INVALID_PARAMETER_VALUE)


def interrupted() -> None:
    raise KeyboardInterrupt


def both(*steps: Step) -> Step:
    def run() -> None:
        for step in steps:
            step()

    return run


def test_a_move_that_works_closes_its_entry_and_says_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.decide().number == 1
    assert world.state == (WANTED, ["counts"])
    assert (world.sent, world.pauses_s, capsys.readouterr().err) == (1, [], "")


def test_an_answer_lost_after_the_move_is_as_good_as_one(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.requests = [both(lambda: world.put(WANTED), lost)]
    assert world.decide().to_version == WANTED
    assert world.state == (WANTED, ["counts"])
    assert (world.sent, world.pauses_s, capsys.readouterr().err) == (1, [], "")


def test_a_request_that_got_lost_is_sent_again_after_half_a_second(world: World) -> None:
    world.requests = [lost, lost]
    world.decide()
    assert world.state == (WANTED, ["counts"])
    assert (world.sent, world.pauses_s) == (3, [0.5, 0.5])


def test_three_requests_without_an_answer_leave_the_entry_open(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.requests = [lost] * 9
    with pytest.raises(NoAnswer):
        world.decide()
    assert world.state == (BEFORE, ["not closed"])
    assert world.sent == 3
    assert capsys.readouterr().err == f"whether version 2 became the champion isn't known yet: {OPEN}\n"


def test_a_refused_move_is_void_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.requests = [refused]
    with pytest.raises(MlflowException, match="no such alias"):
        world.decide()
    assert world.state == (BEFORE, ["void"])
    assert (world.sent, capsys.readouterr().err) == (1, "")


def test_an_alias_that_another_process_moved_meanwhile_voids_the_decision(world: World) -> None:
    world.requests = [both(lambda: world.put(FOREIGN), lost)]
    with pytest.raises(NoAnswer):
        world.decide()
    assert world.state == (FOREIGN, ["void"])
    assert world.sent == 1


def test_an_interruption_after_the_move_is_raised_and_the_entry_counts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.requests = [both(lambda: world.put(WANTED), interrupted)]
    with pytest.raises(KeyboardInterrupt):
        world.decide()
    assert world.state == (WANTED, ["counts"])
    assert capsys.readouterr().err == "decision 1 was made all the same: champion is version 2\n"


def test_an_interruption_before_the_move_is_raised_without_another_request(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.requests = [interrupted]
    with pytest.raises(KeyboardInterrupt):
        world.decide()
    assert world.state == (BEFORE, ["not closed"])
    assert (world.sent, world.pauses_s) == (1, [])
    assert OPEN in capsys.readouterr().err


def test_where_the_alias_cannot_be_read_afterwards_the_first_error_is_told_and_the_entry_stays_open(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def then_nobody_answers(*_: object) -> None:
        raise NoAnswer("the second one")

    def breaks() -> None:
        monkeypatch.setattr(registry, "alias", then_nobody_answers)
        raise NoAnswer("the first one")

    world.requests = [breaks]
    with pytest.raises(NoAnswer, match="the first one"):
        world.decide()
    assert world.state == (BEFORE, ["not closed"])
    assert (world.sent, OPEN in capsys.readouterr().err) == (1, True)


def test_an_alias_that_moved_before_the_request_voids_the_decision(world: World) -> None:
    world.put(FOREIGN)
    with pytest.raises(UserError, match="the champion became version 3 meanwhile; nothing was changed"):
        world.decide()
    assert world.state == (FOREIGN, ["void"])
    assert world.sent == 0


@pytest.mark.parametrize(("took_s", "in_time"), [(50.0, True), (50.5, False)])
def test_a_decision_that_others_may_soon_take_for_dead_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, took_s: float, in_time: bool
) -> None:
    """A third of the 150 s after which an entry counts as left behind."""
    clock_s = iter([1000.0, 1000.0 + took_s])
    monkeypatch.setattr(champion, "time", SimpleNamespace(time=lambda: next(clock_s)))
    if in_time:
        world.decide()
        assert world.state == (WANTED, ["counts"])
        return
    with pytest.raises(UserError, match="MLflow answers too slowly for a decision; nothing was changed"):
        world.decide()
    assert world.state == (BEFORE, ["void"])
    assert world.sent == 0


def test_an_entry_that_cannot_be_closed_counts_for_every_later_reader(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise NoAnswer("Connection aborted")

    with monkeypatch.context() as patched, pytest.raises(NoAnswer):
        patched.setattr(world.ledger, "close", cannot)
        world.decide()
    assert capsys.readouterr().err == "decision 1 was made all the same: champion is version 2\n"
    assert world.state == (WANTED, ["not closed"])
    assert world.ledger.read().champion == WANTED
    assert ledger_module.ABANDONED_S == 150
