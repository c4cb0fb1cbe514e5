"""Numbers as pages, cards and notes show them. A value that isn't known is a dash everywhere."""

from __future__ import annotations

import math

from segops.contracts.scores import Interval

_SMALLEST_P = 1e-4


def number(value: float | None, decimals: int) -> str:
    """Write a number with that many decimals."""
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.{decimals}f}"


def signed(value: float | None, decimals: int) -> str:
    """Write a number with its sign and that many decimals."""
    return number(value, decimals) if value is None or math.isnan(value) else f"{value:+.{decimals}f}"


def score(value: float | None) -> str:
    """Write a number between 0 and 1 with three decimals."""
    return number(value, 3)


def interval(value: Interval | None, decimals: int = 3, *, signed: bool = False) -> str:
    """Write a mean and its interval, as `Interval.words`."""
    return number(None, decimals) if value is None else value.words(decimals, signed=signed)


def p_value(value: float | None) -> str:
    """Write a p-value with four decimals, or that it is smaller than these can say."""
    return f"< {_SMALLEST_P:.4f}" if value is not None and value < _SMALLEST_P else number(value, 4)
