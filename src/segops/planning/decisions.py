"""Defines what a plan is made of: facts of a source, and rules that turn them into decisions about params."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any, NamedTuple

from segops.data.images import bits_of, full_scale
from segops.data.layouts.layout import Example
from segops.planning.classes import Classes
from segops.planning.groups import Grouping
from segops.planning.pairing import Pairing
from segops.planning.pixels import Look


class Budget(NamedTuple):
    """What training may take: minutes of all candidates together, memory, threads, and the arithmetic a second."""

    minutes: float
    memory_gib: float
    threads: int
    gflops_a_second: float


@dataclass(frozen=True)
class Facts:
    """What is known of a source before its plan is made: the fingerprint.

    Attributes:
        uri: as given; `name` is made of it.
        sha256: of an archive.
        examples: all of them, by id.
    """

    uri: str
    name: str
    sha256: str | None
    pairing: Pairing
    examples: list[Example]
    look: Look
    classes: Classes
    grouping: Grouping
    budget: Budget

    @cached_property
    def sizes_hw(self) -> list[tuple[int, int]]:
        """Height and width of the images that were looked at, pixels."""
        return [(facts.height, facts.width) for facts in self.look.images]

    @cached_property
    def median_hw(self) -> tuple[int, int]:
        """Median height and width, pixels."""
        heights, widths = zip(*self.sizes_hw, strict=True)
        return int(median(heights)), int(median(widths))

    @property
    def volumes(self) -> bool:
        """Whether the examples are volumes."""
        return any(facts.depth > 1 for facts in self.look.images)

    @cached_property
    def thickness_px(self) -> float | None:
        """Typical width of the thinner objects, pixels: the quarter of all that is thinner is left aside.

        None where there are no objects.
        """
        widths = sorted(width for facts in self.look.masks for width in facts.widths_px)
        return widths[len(widths) // 4] if widths else None

    def full_scale(self, dtype: str) -> float:
        """Return the value that counts as 1 in images of an unsigned type, by the bits that 16-bit samples use."""
        highest = max((facts.top for facts in self.look.images if facts.dtype == "uint16"), default=0.0)
        return full_scale(dtype, bits_of(int(highest)))

    @property
    def train_images(self) -> int:
        """About how many images are trained on."""
        return max(1, round(0.6 * len(self.examples)))


@dataclass(frozen=True)
class Decision:
    """The value of a param, and why.

    Attributes:
        param: with dots; `candidates.*` stands for each candidate.
        value: as YAML holds it.
        why: a phrase for the comment.
        sure: whether the facts leave no doubt; the wizard asks where they do.
    """

    param: str
    value: Any
    why: str
    sure: bool = True


@dataclass
class Plan:
    """The decisions made so far, by param."""

    decisions: dict[str, Decision] = field(default_factory=dict)

    def __getitem__(self, param: str) -> Any:
        """Return a param's value. Raises KeyError where nothing is decided."""
        return self.decisions[param].value

    def get(self, param: str, default: Any) -> Any:
        """Return a param's value, or a default where nothing is decided."""
        return self.decisions[param].value if param in self.decisions else default

    def add(self, decision: Decision) -> None:
        """Keep a decision, in place of an earlier one about the same param."""
        self.decisions[decision.param] = decision


Decisions = Iterator[Decision]
Rule = Callable[[Facts, Plan], Decisions]
Ask = Callable[[Decision], Any]


def make_plan(facts: Facts, rules: list[Rule], ask: Ask | None = None) -> Plan:
    """Apply rules in their order; each sees what was decided before it.

    Args:
        ask: called with each decision that isn't sure, returns the value to take; None: nobody is asked.
    """
    plan = Plan()
    for rule in rules:
        for decision in rule(facts, plan):
            if ask is not None and not decision.sure:
                value = ask(decision)
                decision = Decision(decision.param, value, decision.why if value == decision.value else "as you said")
            plan.add(decision)
    return plan
