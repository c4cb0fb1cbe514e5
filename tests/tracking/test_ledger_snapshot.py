"""What follows from the ledger's entries and the alias, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from segops.contracts.decision import Check, Decision, break_of, heads
from segops.errors import UserError
from segops.files import sha256_lines
from segops.tracking.ledger_snapshot import Entry, Snapshot, State

Action = Literal["promote", "rollback", "refused", "declined"]
MINE, OTHER = "a" * 64, "b" * 64


def decision(
    number: int | None, from_version: int | None, to_version: int, action: Action = "promote", **given: Any
) -> Decision:
    return Decision(
        number=number, action=action, model_name="nuclei", from_version=from_version, to_version=to_version,
        who="ann@lab", when="2026-01-02T03:04:05+00:00", **given,
    )  # fmt: skip


def entry(decision: Decision, state: State = "counts", *, headed: bool = True, signed: bool = True) -> Entry:
    return Entry("run", decision.model_dump_json(), state, settled=state != "open", headed=headed, signed=signed)


def snapshot(*entries: Entry | Decision, alias: int | None = None, **given: Any) -> Snapshot:
    """Of these entries, with the alias where they put it unless said otherwise, and the last one as head."""
    held = tuple(one if isinstance(one, Entry) else entry(one) for one in entries)
    head = sha256_lines([held[-1].line]) if held else None
    return Snapshot("nuclei", held, **{"alias": alias, "head": head, **given})


def chained(*decisions: Decision) -> list[Decision]:
    """The same decisions, each naming the line before it."""
    named: list[Decision] = []
    for one in decisions:
        before = [sha256_lines([named[-1].model_dump_json()])] if named else []
        named.append(one.model_copy(update={"previous": before}))
    return named


def test_only_entries_that_count_are_decisions_and_the_open_ones_stand_apart() -> None:
    first, void, still = decision(1, None, 1), decision(2, 1, 2), decision(3, 1, 3)
    ledger = snapshot(entry(first), entry(void, "void"), entry(still, "open"), alias=1)
    assert (ledger.decisions, ledger.open) == ([first], [still])
    assert ledger.lines == [first.model_dump_json()]
    assert ledger.next_number == 4  # numbers of void and open entries are taken


def test_the_champion_is_that_of_the_highest_number_whatever_the_order_of_the_entries() -> None:
    ledger = snapshot(decision(2, 5, 6), decision(1, None, 5), decision(None, 6, 9, "refused"), alias=6)
    assert [one.number for one in ledger.moves] == [1, 2]
    assert ledger.champion == 6
    assert not ledger.by_hand
    assert ledger.next_number == 3


def test_an_empty_ledger_has_no_champion_and_its_first_decision_is_number_1() -> None:
    ledger = snapshot()
    assert (ledger.champion, ledger.by_hand, ledger.next_number) == (None, False, 1)
    assert (ledger.champions(), ledger.former_champions(), ledger.to_follow()) == ([], set(), [])
    assert (ledger.problems(), ledger.damages()) == ([], [])
    assert ledger.standing(1) == "never promoted"


def test_refusals_alone_take_no_number() -> None:
    assert snapshot(decision(None, None, 9, "refused")).next_number == 1


def test_the_last_decision_that_made_a_version_the_champion_speaks_for_it() -> None:
    moves = [decision(1, None, 1), decision(2, 1, 2), decision(3, 2, 1, "rollback")]
    ledger = snapshot(*moves, alias=1)
    assert ledger.decision_for(1) == moves[2]
    assert ledger.decision_for(2) == moves[1]
    assert ledger.decision_for(3) is None


@pytest.mark.parametrize(
    ("moves", "stack", "former"),
    [
        ([("promote", None, 1)], [1], {1}),
        ([("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3)], [1, 2, 3], {1, 2, 3}),
        # A champion from before the ledger is one to return to.
        ([("promote", 8, 9)], [8, 9], {8, 9}),
        ([("promote", None, 1), ("promote", 1, 2), ("promote", 2, 3), ("rollback", 3, 1)], [1], {1, 2, 3}),
        ([("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1), ("rollback", 1, 2)], [1, 2], {1, 2}),
        ([("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1), ("promote", 1, 3)], [1, 3], {1, 2, 3}),
    ],
)
def test_rollbacks_unwind_what_promotions_stacked(
    moves: Sequence[tuple[Action, int | None, int]], stack: list[int], former: set[int]
) -> None:
    decisions = [decision(number, before, after, action) for number, (action, before, after) in enumerate(moves, 1)]
    ledger = snapshot(*decisions, alias=decisions[-1].to_version)
    assert (ledger.champions(), ledger.former_champions()) == (stack, former)


def test_what_stood_there_by_hand_was_no_champion() -> None:
    ledger = snapshot(decision(1, None, 1), decision(2, 7, 3, by_hand=True), alias=3)
    assert (ledger.champions(), ledger.former_champions()) == ([1, 3], {1, 3})


def test_readings_of_a_test_set_are_all_but_rollbacks() -> None:
    actions: tuple[Action, ...] = ("promote", "refused", "declined", "rollback")
    read = [decision(None, None, 1, action, test_sha256=MINE) for action in actions]
    ledger = snapshot(*read, decision(None, None, 1, "refused", test_sha256=OTHER))
    assert (ledger.test_reads(MINE), ledger.test_reads(OTHER), ledger.test_reads("c" * 64)) == (3, 1, 0)


def test_each_version_is_told_where_it_stands() -> None:
    ledger = snapshot(*chained(decision(1, None, 1), decision(2, 1, 2)), alias=2)
    assert ledger.standing(2) == "champion by decision 2"
    assert ledger.standing(1) == "once champion by decision 1"
    assert ledger.standing(3) == "never promoted"
    assert (ledger.problems(), ledger.by_hand) == ([], False)


def test_an_alias_moved_by_hand_is_told_of_every_version() -> None:
    ledger = snapshot(*chained(decision(1, None, 1), decision(2, 1, 2)), alias=3)
    assert ledger.by_hand
    assert ledger.standing(3) == ("champion by hand, by no decision (the ledger's is version 2; see `segops history`)")
    assert ledger.standing(2) == ("champion by decision 2, but the alias was moved away by hand (see `segops history`)")
    assert ledger.standing(1) == "once champion by decision 1"
    assert ledger.standing(4) == "never promoted"
    assert ledger.problems() == [
        "the alias champion of 'nuclei' stands on version 3, but decision 2 made it 2: it was moved by hand; `segops "
        "rollback` returns to the ledger's champion, `segops promote` decides anew"
    ]


def test_an_alias_taken_away_by_hand_is_told() -> None:
    [problem] = snapshot(decision(1, None, 1), alias=None).problems()
    assert problem.startswith("the alias champion of 'nuclei' stands on no version, but decision 1 made it 1")


def test_an_alias_that_no_decision_ever_moved_is_told() -> None:
    ledger = snapshot(alias=3)
    assert ledger.standing(3) == "champion by hand, by no decision (the ledger has none; see `segops history`)"
    assert ledger.problems() == [
        "the alias champion of 'nuclei' stands on version 3, but no decision did that: it was moved by hand; `segops "
        "promote` decides anew"
    ]


# ---------------------------------------------------------------------------------------------------------- damages


def test_a_chain_as_it_was_written_has_no_damage_and_is_followed_at_its_end() -> None:
    first, second = chained(decision(1, None, 1), decision(2, 1, 2))
    ledger = snapshot(first, second, alias=2)
    assert ledger.damages() == []
    assert ledger.to_follow() == [sha256_lines([second.model_dump_json()])]


def test_a_last_entry_that_is_gone_is_noticed_and_stays_missed() -> None:
    first, second = chained(decision(1, None, 1), decision(2, 1, 2))
    gone = sha256_lines([second.model_dump_json()])
    ledger = snapshot(first, alias=1, head=gone)
    assert ledger.damages() == [
        f"the ledger isn't as it was written: the model's tag names the last entry {gone[:12]}, and no entry is that: "
        "it was changed or removed; compare the ledger with an earlier `history --json`"
    ]
    assert ledger.to_follow() == [sha256_lines([first.model_dump_json()]), gone]
    assert ledger.standing(1) == "champion by decision 1; the ledger isn't as it was written (see `segops history`)"


def test_an_entry_that_is_gone_from_the_middle_is_noticed() -> None:
    first, second, third = chained(decision(1, None, 1), decision(2, 1, 2), decision(3, 2, 3))
    [damage] = snapshot(first, third, alias=3).damages()
    assert "decision 3 of 2026-01-02T03:04:05+00:00 follows an entry" in damage
    assert second.number == 2


def test_a_missing_tag_is_a_damage_where_any_entry_had_one() -> None:
    first, second = chained(decision(1, None, 1), decision(2, 1, 2))
    old = [entry(one, headed=False) for one in (first, second)]
    assert snapshot(*old, alias=2, head=None).damages() == []
    assert snapshot(*old, alias=2, head=None).to_follow() == [sha256_lines([second.model_dump_json()])]
    for entries in ([old[0], entry(second)], [entry(first), old[1]]):
        [damage] = snapshot(*entries, alias=2, head=None).damages()
        assert damage.endswith("the model's tag that names its last entry was removed")


def test_a_run_without_an_entry_is_named_before_what_follows_from_it() -> None:
    [damage] = snapshot(decision(1, None, 1), alias=1, head=None, damaged=("r1", "r2")).damages()
    assert damage == "the ledger isn't as it was written: run r1 holds no entry that can be read"


# --------------------------------------------------------------------------------------------------------- signatures


def test_where_decisions_must_be_signed_one_that_counts_and_is_not_is_refused() -> None:
    first, second = chained(decision(1, None, 1), decision(2, 1, 2))
    unsigned = [entry(first), entry(second, signed=False)]
    ledger = snapshot(*unsigned, alias=2, strict=True)
    message = "the ledger can't be believed: decision 2 of 2026-01-02T03:04:05+00:00 by ann@lab isn't signed by a key"
    assert [one[: len(message)] for one in ledger.damages()] == [message]
    with pytest.raises(UserError, match="the ledger can't be believed: decision 2 of"):
        ledger.refuse_forged()
    snapshot(*unsigned, alias=2).refuse_forged()  # nobody asks for signatures
    snapshot(entry(first), entry(second), alias=2, strict=True).refuse_forged()


def test_an_entry_that_does_not_count_needs_no_signature() -> None:
    first, second = chained(decision(1, None, 1), decision(2, 1, 2))
    ledger = snapshot(entry(first), entry(second, "void", signed=False), alias=1, strict=True)
    assert ledger.damages() == []


def test_of_several_damages_the_missing_signature_is_raised() -> None:
    ledger = snapshot(entry(decision(1, None, 1), signed=False), alias=1, strict=True, damaged=("r1",))
    assert len(ledger.damages()) == 2
    with pytest.raises(UserError, match="can't be believed"):
        ledger.refuse_forged()


def test_a_damaged_ledger_is_refused_only_where_signatures_are_asked_for() -> None:
    first = decision(1, None, 1)
    snapshot(first, alias=1, damaged=("r1",)).refuse_forged()
    with pytest.raises(UserError, match="run r1 holds no entry"):
        snapshot(first, alias=1, damaged=("r1",), strict=True).refuse_forged()


def test_what_is_not_said_to_be_signed_or_strict_is_neither() -> None:
    line = decision(1, None, 1).model_dump_json()
    plain = Entry("run", line, "counts", settled=True, headed=True)
    assert not plain.signed
    assert not Snapshot("nuclei", (plain,), alias=1, head=sha256_lines([line])).strict


# ------------------------------------------------------------------------------------------------------ its entries


def test_an_entry_from_before_a_field_was_added_is_read_with_what_was_true_then() -> None:
    first = {"number", "action", "model_name", "from_version", "to_version", "who", "when"}
    old = Decision.model_validate_json(decision(1, None, 1).model_dump_json(include=first))
    assert (old.override, old.by_hand, old.test_reads, old.checks, old.previous) == (False, False, 0, [], [])
    assert old.reason is old.weights_sha256 is old.candidate is None


def test_checks_that_failed_are_those_that_were_judged_and_not_passed() -> None:
    answers = {"floor": True, "groups": False, "noise": None}
    checks = [Check(name=name, passed=passed, detail="") for name, passed in answers.items()]
    assert [check.name for check in decision(1, None, 1, checks=checks).failed] == ["groups"]
    assert checks[0].value is checks[0].limit is None


def test_a_reason_has_at_most_a_thousand_characters_and_a_test_set_no_negative_readings() -> None:
    assert decision(1, None, 1, reason="x" * 1000, test_reads=0).reason == "x" * 1000
    for wrong in ({"reason": "x" * 1001}, {"test_reads": -1}):
        with pytest.raises(ValidationError):
            decision(1, None, 1, **wrong)


def test_a_decision_is_called_by_its_number_or_by_what_it_was() -> None:
    assert decision(3, None, 1).title == "decision 3"
    assert decision(None, None, 1, "refused").title == "the refused entry"
    assert [decision(1, 1, 2, action).moves for action in ("promote", "rollback", "refused", "declined")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_the_chain_breaks_at_the_first_entry_that_follows_a_missing_one() -> None:
    lines = [one.model_dump_json() for one in chained(*(decision(n, n - 1 or None, n) for n in (1, 2, 3, 4)))]
    assert break_of(lines) is None
    assert heads(lines) == [sha256_lines([lines[3]])]
    gone = sha256_lines([lines[0]])[:12]
    assert break_of(lines[1:]) == (
        f"decision 2 of 2026-01-02T03:04:05+00:00 follows an entry {gone} that was changed or removed afterwards"
    )
    assert heads(lines[:1] + lines[2:3]) == [sha256_lines([lines[0]]), sha256_lines([lines[2]])]
