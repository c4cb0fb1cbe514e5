"""Which images of per_image.csv have a class, in the truth and in the prediction.

Dice of an image without the class says nothing, or 0 where something was predicted: candidates are compared where the
truth has it, and false positives are counted where it hasn't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.contracts.per_image import ClassColumns

if TYPE_CHECKING:
    import pandas as pd


def in_truth(table: pd.DataFrame, own: ClassColumns | None = None) -> pd.Series[bool]:
    """Say for each image whether its truth has a class; None: foreground."""
    pixels = table[own.pixels] if own else table["true_positive"] + table["false_negative"]
    return pixels > 0


def in_prediction(table: pd.DataFrame, own: ClassColumns | None = None) -> pd.Series[bool]:
    """Say for each image whether a class was predicted in it; None: foreground."""
    pixels = table[own.predicted_pixels] if own else table["true_positive"] + table["false_positive"]
    return pixels > 0


def false_positive_share(table: pd.DataFrame, own: ClassColumns | None = None) -> float | None:
    """Return the share of the images without a class in truth in which it was predicted.

    It is None where every image's truth has the class. Images that are ignored as a whole aren't among them.
    """
    scored = table[["true_positive", "false_positive", "false_negative", "true_negative"]].sum(axis=1) > 0
    lacking = table[~in_truth(table, own) & scored]
    return round(float(in_prediction(lacking, own).mean()), 9) if len(lacking) else None
