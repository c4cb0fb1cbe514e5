"""What became of a single fault, and the contract that each kind of fault keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

Verdict = Literal["right", "one line", "wrong", "traceback", "doubled"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
BAD: frozenset[Verdict] = frozenset({"wrong", "traceback", "doubled"})


@dataclass(frozen=True)
class Outcome:
    """What became of a single fault.

    Attributes:
        kind: the module's NAME.
        case: which fault, in words that find it again.
        verdict: `right`: as if nothing had happened; `one line`: refused in a line that says what to do; `wrong`: a
            result that isn't true, a line that sends the wrong way, or something left broken; `doubled`: done twice.
        detail: what was seen, where that isn't plain.
    """

    kind: str
    case: str
    verdict: Verdict
    detail: str


class Kind(Protocol):
    """A module of this package that tries a kind of fault."""

    NAME: str

    def run(self, folder: Path, share: float, seed: int) -> Iterator[Outcome]:
        """Yield the outcome of each fault.

        Args:
            folder: empty, for whatever it writes.
            share: of the campaign's faults, above 0 and up to 1.
            seed: draws moments, places and bytes.
        """
