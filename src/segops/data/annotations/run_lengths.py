"""Reads tables of run lengths, one row per object, as of the Data Science Bowl 2018 and many contests after it.

A row names an image and holds pairs of a start and a length: pixels are counted from 1 down the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from segops.data.annotations.drawing import Annotation, draw_runs
from segops.errors import UserError


class Runs(NamedTuple):
    """The run lengths of an object: its row's number, its class, and the text."""

    row: int
    label: str
    text: str


def drawn_runs(rows: Sequence[Runs], table: str, size: tuple[int, int]) -> Iterator[Annotation]:
    """Yield the objects of an image of that height and width; a row without runs is an image without objects.

    Raises: UserError naming the table and the row.
    """
    for runs in rows:
        where = f"{table}: row {runs.row}"
        try:
            numbers = np.array([int(number) for number in runs.text.split()], np.int64)
        except ValueError:
            raise UserError(f"{where}: run lengths that aren't whole numbers; correct it") from None
        if len(numbers) % 2:
            raise UserError(f"{where}: a start without a length; correct it")
        if len(numbers):
            yield Annotation(runs.label, draw_runs(numbers[::2] - 1, numbers[1::2], size, where))
