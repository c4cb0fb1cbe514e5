"""Holds what a check is: an expectation with its words for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from segops.progress import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Check:
    """Holds an expectation with its words for the report.

    Attributes:
        kind: the class in `great_expectations.expectations`.
        arguments: of that class.
        expected: what is expected, one line.
        fix: what to do when it fails.
        seen: words what was seen in the table of `suite.derived`; None: the expectation's own figure.
        tells: words a failing image's value, `{}`; empty: the value says it.
        noun: what is counted.
    """

    name: str
    severity: Literal["critical", "warning"]
    kind: str
    arguments: dict[str, Any]
    expected: str
    fix: str
    seen: Callable[[pd.DataFrame], str] | None = None
    tells: str = ""
    noun: str = "image"


def tally(values: pd.Series) -> str:
    """Write which values there are, the most frequent first, with their numbers of images."""
    return ", ".join(f"{value} ({counted(count, 'image')})" for value, count in values.value_counts().items())


def either(values: Sequence[Any]) -> str:
    """List what is allowed: 1, 2 or 3."""
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def shown_in(index: int) -> Callable[[pd.DataFrame], str]:
    """Return what words in how many images a class was seen."""
    return lambda table: f"in {table[f'has_class_{index}'].sum()} of {counted(len(table), 'image')}"
