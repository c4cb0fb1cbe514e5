"""The ledger as one command has read it, and what follows from it. Nothing here asks the store."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from segops.contracts.decision import Decision, break_of, heads
from segops.errors import UserError
from segops.files import sha256_lines
from segops.progress import say

State = Literal["counts", "open", "void"]


@dataclass(frozen=True)
class Entry:
    """Holds a decision as the store has it.

    Attributes:
        run_id: the id of the run that holds it.
        line: its JSON as it was written; its SHA-256, with a `\\n`, is what later entries name.
        state: `counts`; `open`: its process may still be at work; `void`: it ended without moving the alias.
        settled: whether the store says so itself; else it follows from the alias and the entry's age.
        signed: whether one of the believed keys signed the line; where none are listed, whether anybody did.
        headed: whether the registered model's tag has named it; false of entries from before there was that tag.
    """

    run_id: str
    line: str
    state: State
    settled: bool
    headed: bool
    signed: bool = False

    @cached_property
    def decision(self) -> Decision:
        """Parse the line into the decision."""
        return Decision.model_validate_json(self.line)


@dataclass(frozen=True)
class Snapshot:
    """Holds all entries about one registered model, and its alias `champion`, read in this order.

    Attributes:
        entries: oldest first.
        alias: the version that is the champion in the registry; None: none is.
        head: the last line's SHA-256 as the registered model's tag has it; None: no tag.
        damaged: runs of the ledger whose line can't be read, by id.
        strict: whether every entry that counts must be signed.
    """

    model_name: str
    entries: tuple[Entry, ...]
    alias: int | None
    head: str | None
    damaged: tuple[str, ...] = ()
    strict: bool = False

    @cached_property
    def lines(self) -> list[str]:
        """List the lines of the entries that count, as they were written."""
        return [entry.line for entry in self.entries if entry.state == "counts"]

    @cached_property
    def decisions(self) -> list[Decision]:
        """List the decisions that count: every move, refusal and declined promotion."""
        return [entry.decision for entry in self.entries if entry.state == "counts"]

    @cached_property
    def open(self) -> list[Decision]:
        """List the decisions that other processes may be making now, or died over in the last few minutes."""
        return [entry.decision for entry in self.entries if entry.state == "open"]

    @cached_property
    def moves(self) -> list[Decision]:
        """List the decisions that moved the champion, sorted by number."""
        return sorted(
            (decision for decision in self.decisions if decision.moves), key=lambda decision: decision.number or 0
        )

    @property
    def champion(self) -> int | None:
        """Return the version that the last move made the champion, or None if there was no move."""
        return self.moves[-1].to_version if self.moves else None

    @property
    def next_number(self) -> int:
        """Return the number of the next decision."""
        return 1 + max((entry.decision.number or 0 for entry in self.entries), default=0)

    @property
    def by_hand(self) -> bool:
        """Tell whether the alias names another version than the last decision's."""
        return self.alias != self.champion

    def decision_for(self, version: int) -> Decision | None:
        """Return the last decision that made a version the champion, or None."""
        return next((move for move in reversed(self.moves) if move.to_version == version), None)

    def champions(self) -> list[int]:
        """List the present champion last, and before it the versions that rollbacks return to, in turn."""
        stack: list[int] = []
        for move in self.moves:
            if move.action == "promote":
                if move.from_version is not None and not move.by_hand and stack[-1:] != [move.from_version]:
                    stack.append(move.from_version)
                stack.append(move.to_version)
            else:
                while move.to_version in stack and stack[-1] != move.to_version:
                    stack.pop()
                if move.to_version not in stack:
                    stack.append(move.to_version)
        return stack

    def rival(self, version: int, there: Set[int]) -> int | None:
        """Return the champion that a version must hold its own against; None: there is none, or it is that version.

        It is the ledger's, since a version that was put there by hand must not lower the bar; one that is deleted is
        passed over for the one before it, and that is said.

        Args:
            there: the versions that the registry still has.
        """
        champion = self.alias if self.champion is None else self.champion
        if champion is None or champion == self.alias == version:
            return None
        if champion in there:
            return champion
        left = [former for former in self.champions() if former in there and former != version]
        against = f"version {left[-1]}, the champion before it" if left else "no champion"
        say(f"version {champion}, the ledger's champion, is deleted: the gate compares with {against}")
        return left[-1] if left else None

    def return_to(self, to: int | None, there: Set[int]) -> int:
        """Return the version that a rollback goes back to: `to`, or the last champion before the present one.

        Args:
            there: the versions that the registry still has; others are passed over, and that is said.

        Raises: UserError where no decision ever made or found such a version the champion.
        """
        if to is not None:
            self._refuse_to(to)
            return to
        stack = self.champions()
        former = stack if self.by_hand else stack[:-1]
        deleted = [version for version in former if version not in there]
        left = [version for version in former if version in there and version != self.alias]
        lost = f"version {', '.join(map(str, reversed(deleted)))} was the champion and is deleted" if deleted else ""
        if not left:
            why = f"{lost}; `segops promote` makes another one" if lost else "see `segops history`"
            raise UserError(f"'{self.model_name}' has no champion before the present one to go back to; {why}")
        if lost and former[-1] in deleted:
            say(f"{lost}: the champion before it is version {left[-1]}")
        return left[-1]

    def _refuse_to(self, to: int) -> None:
        """Raise UserError where a version is the champion, or never was."""
        if to == self.alias:
            raise UserError(f"version {to} of '{self.model_name}' is the champion already")
        former = self.former_champions() - {self.alias}
        if to not in former:
            raise UserError(
                f"version {to} of '{self.model_name}' was never the champion (these were: "
                f"{', '.join(map(str, sorted(former)))}); `segops promote {to}` asks the gate"
            )

    def former_champions(self) -> set[int]:
        """Return every version that a decision found or made the champion, the present one included."""
        found = {move.from_version for move in self.moves if move.from_version is not None and not move.by_hand}
        return found | {move.to_version for move in self.moves}

    def to_follow(self) -> list[str]:
        """List the SHA-256 that the next entry names: those of the last lines, and of a last entry that is gone."""
        last = heads([entry.line for entry in self.entries])
        return last if self.head is None or self.head in self._hashes else [*last, self.head]

    @cached_property
    def _hashes(self) -> set[str]:
        """Hash the line of every entry."""
        return {sha256_lines([entry.line]) for entry in self.entries}

    def test_reads(self, test_sha256: str) -> int:
        """Count how often the gate has read a test set."""
        return sum(decision.test_sha256 == test_sha256 and decision.action != "rollback" for decision in self.decisions)

    def standing(self, version: int) -> str:
        """Describe in a few words what the ledger says of a version, with a doubt if the ledger is damaged."""
        doubt = "; the ledger isn't as it was written (see `segops history`)" if self.damages() else ""
        return self._standing(version) + doubt

    def _standing(self, version: int) -> str:
        """Describe a version's part in the ledger, trusting the ledger."""
        made = self.decision_for(version)
        if version == self.alias and self.by_hand:
            theirs = f"the ledger's is version {self.champion}" if self.champion else "the ledger has none"
            return f"champion by hand, by no decision ({theirs}; see `segops history`)"
        if made is None:
            return "never promoted"
        if version == self.champion and not self.by_hand:
            return f"champion by decision {made.number}"
        if version == self.champion:
            return f"champion by decision {made.number}, but the alias was moved away by hand (see `segops history`)"
        return f"once champion by decision {made.number}"

    def problems(self) -> list[str]:
        """List what is wrong, a sentence each: entries changed or removed, an alias that no decision put there."""
        return [*self.damages(), *self._alias_problem()]

    def damages(self) -> list[str]:
        """List the signs that entries were changed, removed or not signed as required, a sentence each."""
        return list(self._damages())

    def refuse_forged(self) -> None:
        """Raise UserError if decisions must be signed and the ledger is damaged or has unsigned entries."""
        if self.strict and (damages := self.damages()):
            raise UserError(damages[0])

    def _damages(self) -> Iterator[str]:
        """Yield a sentence about missing signatures, and one about the first break in the chain of entries."""
        unsigned = [entry.decision for entry in self.entries if entry.state == "counts" and not entry.signed]
        if self.strict and unsigned:
            yield (
                f"the ledger can't be believed: {unsigned[0].title} of {unsigned[0].when} by {unsigned[0].who} isn't "
                "signed by a key of tracking.decision_keys; `segops sign` vouches for entries older than the keys"
            )
        written = [entry.line for entry in self.entries]
        if self.damaged:
            yield f"the ledger isn't as it was written: run {self.damaged[0]} holds no entry that can be read"
        elif broken := break_of(written):
            yield f"the ledger isn't as it was written: {broken}; compare it with an earlier `history --json`"
        elif self.head is None and any(entry.headed for entry in self.entries):
            yield "the ledger isn't as it was written: the model's tag that names its last entry was removed"
        elif self.head is not None and self.head not in self._hashes:
            yield (
                f"the ledger isn't as it was written: the model's tag names the last entry {self.head[:12]}, and no "
                "entry is that: it was changed or removed; compare the ledger with an earlier `history --json`"
            )

    def _alias_problem(self) -> Iterator[str]:
        """Yield a sentence if the alias was moved by hand."""
        if not self.by_hand:
            return
        stands = f"on version {self.alias}" if self.alias is not None else "on no version"
        last = f"decision {self.moves[-1].number} made it {self.champion}" if self.moves else "no decision did that"
        restore = "`segops rollback` returns to the ledger's champion, " if self.moves else ""
        how = "it was removed by hand, or its version deleted" if self.alias is None else "it was moved by hand"
        yield (
            f"the alias champion of '{self.model_name}' stands {stands}, but {last}: {how}; {restore}`segops promote` "
            "decides anew"
        )
