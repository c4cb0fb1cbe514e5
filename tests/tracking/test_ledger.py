"""The ledger: append-only, and a decision number belongs to one process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Literal

import pytest

from segops.contracts.decision import Check, Decision, break_of
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.tracking import TrackingParams
from segops.tracking import ledger as module
from segops.tracking import signing, store
from segops.tracking.ledger import Ledger
from tests.support.mlflow_server import own_names

pytest_plugins = ["tests.support.mlflow_stores"]


def _decision(
    ledger: Ledger,
    number: int | None,
    from_version: int | None,
    to_version: int,
    action: Literal["promote", "rollback", "refused", "declined"] = "promote",
    **given: Any,
) -> Decision:
    return Decision(
        number=number,
        action=action,
        model_name=ledger.model_name,
        from_version=from_version,
        to_version=to_version,
        who="ann@lab",
        when="2026-01-02T03:04:05+00:00",
        **given,
    )


@pytest.fixture
def ledger(tracking: TrackingParams) -> Ledger:
    """An empty ledger in each kind of store."""
    return _new_ledger(tracking)


@pytest.fixture
def file_ledger(file_store: None) -> Ledger:
    """An empty ledger in a file store."""
    return _new_ledger(own_names())


def _new_ledger(tracking: TrackingParams) -> Ledger:
    client = store.client()
    client.create_registered_model(tracking.model_name)
    return Ledger(client, tracking)


def _append(ledger: Ledger, *decisions: Decision) -> None:
    for decision in decisions:
        ledger.append(decision, ledger.read())


def test_entries_come_back_whole_and_in_order(ledger: Ledger) -> None:
    check = Check(name="test Dice floor", passed=True, value=0.9, limit=0.5, detail="mean Dice on test")
    first = _decision(ledger, 1, None, 1, checks=[check], reason='it\'s "best"; 100 % so', test_sha256="a" * 64)
    second = _decision(ledger, None, 1, 2, "refused", test_reads=2)
    _append(ledger, first, second)
    snapshot = ledger.read()
    assert [one.model_copy(update={"previous": []}) for one in snapshot.decisions] == [first, second]
    assert snapshot.next_number == 2


def test_an_entry_longer_than_a_tag_comes_back_whole(ledger: Ledger) -> None:
    checks = [Check(name=f"class {n}", passed=True, value=0.1, detail="é" * 100) for n in range(100)]
    long = _decision(ledger, 1, None, 1, checks=checks)
    _append(ledger, long)
    assert ledger.read().decisions == [long]
    assert len(ledger.read().lines[0]) > 16_000  # MLflow cuts a tag off at 8000 characters, without a word


def test_a_number_is_claimed_once(ledger: Ledger) -> None:
    assert ledger.claim(1) == 1
    with pytest.raises(UserError, match="another process is making decision 1 right now; nothing was changed"):
        ledger.claim(1)
    _append(ledger, _decision(ledger, 1, None, 7))
    with pytest.raises(UserError, match=r"ann@lab made decision 1 \(champion is version 7\); nothing was changed"):
        ledger.claim(1)
    assert ledger.claim(2) == 2


def test_of_many_claims_at_once_one_wins(ledger: Ledger) -> None:
    outcomes: list[str] = []
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait()
        try:
            outcomes.append(f"won {ledger.claim(1)}")
        except UserError as error:
            outcomes.append(str(error)[:15])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["another process"] * 3 + ["won 1"]


def test_a_claim_clutters_no_list(file_ledger: Ledger) -> None:
    file_ledger.claim(1)
    names = [one.name for one in store.client().search_experiments()]
    assert not any("000001" in name for name in names)


def test_a_dead_process_claim_is_passed_over(file_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    file_ledger.claim(1)
    monkeypatch.setattr(module, "ABANDONED_S", -1.0)
    assert file_ledger.claim(1) == 2


@pytest.mark.parametrize(("alias", "counts"), [("5", True), ("4", False), (None, False)])
def test_what_a_dead_process_left_open_counts_when_the_alias_had_moved(
    file_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, alias: str | None, counts: bool
) -> None:
    client = store.client()
    for _ in range(5):
        client.create_model_version(file_ledger.model_name, source=tmp_path.as_uri())
    if alias:
        client.set_registered_model_alias(file_ledger.model_name, "champion", alias)
    decision = _decision(file_ledger, 1, 4, 5)
    file_ledger.open(decision, file_ledger.read())
    assert (file_ledger.settled().decisions, file_ledger.read().open) == (
        ([decision], []) if counts else ([], [decision])
    )
    monkeypatch.setattr(module, "ABANDONED_S", -1.0)
    assert file_ledger.settled().open == []
    client.set_registered_model_alias(file_ledger.model_name, "champion", "1")  # what is settled stays so
    assert [one.to_version for one in file_ledger.read().decisions] == [5] * counts
    states = [store.client().get_run(entry.run_id).info.status for entry in file_ledger.read().entries]
    assert states == ["FINISHED" if counts else "FAILED"]


def test_a_refusal_whose_process_died_before_its_end_counts(file_ledger: Ledger) -> None:
    file_ledger.open(_decision(file_ledger, None, 4, 5, "refused", test_sha256="a" * 64), file_ledger.read())
    assert file_ledger.read().test_reads("a" * 64) == 1


def test_rollbacks_unwind_promotions_one_by_one(file_ledger: Ledger) -> None:
    steps: list[tuple[Literal["promote", "rollback", "refused"], int | None, int]] = [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("refused", 2, 9),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("promote", 2, 4),
        ("rollback", 4, 2),
    ]
    for number, (action, before, after) in enumerate(steps, start=1):
        _append(file_ledger, _decision(file_ledger, number, before, after, action))
    assert file_ledger.read().champions() == [1, 2]


def test_a_rollback_passes_over_a_version_that_was_put_there_by_hand(file_ledger: Ledger) -> None:
    _append(file_ledger, _decision(file_ledger, 1, 8, 9), _decision(file_ledger, 2, 7, 10, by_hand=True))
    snapshot = file_ledger.read()
    assert (snapshot.champions(), snapshot.former_champions()) == ([8, 9, 10], {8, 9, 10})


def test_readings_of_a_test_set_are_counted(file_ledger: Ledger) -> None:
    mine, other = "a" * 64, "b" * 64
    for action, test_sha256 in (("promote", mine), ("refused", mine), ("declined", other), ("rollback", mine)):
        _append(file_ledger, _decision(file_ledger, 1, None, 1, action, test_sha256=test_sha256))  # type: ignore[arg-type]
    snapshot = file_ledger.read()
    assert (snapshot.test_reads(mine), snapshot.test_reads(other)) == (2, 1)


def test_models_of_one_experiment_keep_their_decisions_apart(file_ledger: Ledger) -> None:
    tracking = own_names()
    mine, other = (_new_ledger(tracking.model_copy(update={"model_name": name})) for name in ("mine", "other"))
    _append(mine, _decision(mine, 1, None, 1))
    assert other.read().entries == ()
    assert other.claim(1) == 1


def test_entries_written_at_once_are_both_followed(file_ledger: Ledger) -> None:
    _append(file_ledger, _decision(file_ledger, 1, None, 1))
    seen_by_both = file_ledger.read()
    one = file_ledger.open(_decision(file_ledger, None, 1, 2, "refused"), seen_by_both)
    other = file_ledger.open(_decision(file_ledger, None, 1, 3, "refused"), seen_by_both)
    for run_id in (one, other):
        file_ledger.close(run_id)
    _append(file_ledger, _decision(file_ledger, 2, 1, 4))
    lines = file_ledger.read().lines
    first, *both, last = (Decision.model_validate_json(line) for line in lines)
    assert first.previous == []
    assert [two.previous for two in both] == [[sha256_lines(lines[:1])]] * 2
    assert last.previous == [sha256_lines([line]) for line in lines[1:3]]
    assert break_of(lines) is None
    for gone in range(3):
        assert break_of([line for at, line in enumerate(lines) if at != gone]) is not None
    assert break_of(lines[:3]) is None  # nothing follows the last one yet


# ------------------------------------------------------------------------------------------------------- tampering


def _runs(ledger: Ledger) -> list[str]:
    return [entry.run_id for entry in ledger.read().entries]


def test_a_missing_last_entry_is_noticed_and_stays_noticed(file_ledger: Ledger) -> None:
    for version in (1, 2):
        _append(file_ledger, _decision(file_ledger, version, version - 1 or None, version))
    assert file_ledger.read().damages() == []
    store.client().delete_run(_runs(file_ledger)[-1])
    assert "no entry is that: it was changed or removed" in file_ledger.read().damages()[0]
    _append(file_ledger, _decision(file_ledger, 3, 1, 3))
    assert "decision 3 of 2026-01-02T03:04:05+00:00 follows an entry" in file_ledger.read().damages()[0]


def test_a_ledger_rewritten_with_a_consistent_chain_is_noticed(file_ledger: Ledger) -> None:
    client, previous = store.client(), list[str]()
    for version in (1, 2):
        _append(file_ledger, _decision(file_ledger, version, version - 1 or None, version))
    for entry in file_ledger.read().entries:
        forged = entry.decision.model_copy(update={"who": "mallory", "previous": previous}).model_dump_json()
        client.set_tag(entry.run_id, "segops.decision.000", forged)
        previous = [sha256_lines([forged])]
    snapshot = file_ledger.read()
    assert break_of(snapshot.lines) is None
    assert "the model's tag names the last entry" in snapshot.damages()[0]
    client.delete_registered_model_tag(file_ledger.model_name, "segops.ledger.head")
    assert "the model's tag that names its last entry was removed" in file_ledger.read().damages()[0]


def test_an_entry_that_cannot_be_read_is_named_and_the_others_are_shown(file_ledger: Ledger) -> None:
    for version in (1, 2):
        _append(file_ledger, _decision(file_ledger, version, version - 1 or None, version))
    first, _ = _runs(file_ledger)
    store.client().set_tag(first, "segops.decision.000", "{}")
    snapshot = file_ledger.read()
    assert f"run {first} holds no entry that can be read" in snapshot.damages()[0]
    assert [one.number for one in snapshot.decisions] == [2]


def test_a_rollback_to_a_version_that_was_rolled_back_from_stands_above_the_others(file_ledger: Ledger) -> None:
    steps: list[tuple[Literal["promote", "rollback"], int | None, int]] = [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("rollback", 2, 1),
        ("rollback", 1, 2),
    ]
    for number, (action, before, after) in enumerate(steps, start=1):
        _append(file_ledger, _decision(file_ledger, number, before, after, action))
    assert file_ledger.read().champions() == [1, 2]
    assert file_ledger.read().former_champions() == {1, 2}


def test_entries_that_count_are_signed_once_and_void_ones_are_not(
    file_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _append(file_ledger, _decision(file_ledger, 1, None, 1))
    file_ledger.close(file_ledger.open(_decision(file_ledger, 2, 1, 2), file_ledger.read()), counts=False)
    signing.keygen(tmp_path / "key")
    monkeypatch.setenv(signing.KEY_VARIABLE, str(tmp_path / "key"))
    assert [file_ledger.sign(file_ledger.read()) for _ in range(2)] == [1, 0]
    assert [(entry.state, entry.signed) for entry in file_ledger.read().entries] == [("counts", True), ("void", False)]


@pytest.mark.parametrize(("action", "counts"), [("promote", False), ("refused", True)])
def test_an_entry_that_could_not_be_shown_counts_unless_it_was_to_move_the_champion(
    file_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, action: Literal["promote", "refused"], counts: bool
) -> None:
    def breaks(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(file_ledger, "_show", breaks)
    decision = _decision(file_ledger, 1 if action == "promote" else None, None, 1, action)
    with pytest.raises(ConnectionError):
        file_ledger.open(decision, file_ledger.read())
    assert [(entry.state, entry.settled) for entry in file_ledger.read().entries] == [
        ("counts" if counts else "void", True)
    ]
