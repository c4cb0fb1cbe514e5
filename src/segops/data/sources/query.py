"""Reads the values of a synthetic source's URI."""

from __future__ import annotations

from collections.abc import Callable

_FIGURES = 10


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a whole number; it raises ValueError that says what would be right."""

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= _FIGURES else low - 1
        if not low <= number <= high:
            raise ValueError(f"must be a whole number in {low}..{high}")
        return number

    return read


def millimetres(low: float, high: float) -> Callable[[str], tuple[float, float, float]]:
    """Return what reads three lengths, `3,1,1`; it raises ValueError that says what would be right."""

    def read(text: str) -> tuple[float, float, float]:
        parts = text.split(",")
        numbers = [float(part) for part in parts if part.replace(".", "", 1).isdecimal() and len(part) <= _FIGURES]
        if len(parts) != 3 or len(numbers) != 3 or not all(low <= number <= high for number in numbers):
            raise ValueError(f"must be three numbers of millimetres in {low:g}..{high:g}, such as 3,1,1")
        return numbers[0], numbers[1], numbers[2]

    return read
