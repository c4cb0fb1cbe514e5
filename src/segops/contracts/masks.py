"""Defines what a mask's indices mean, wherever masks are read: classes from 0 on, and pixels that belong to none."""

from __future__ import annotations

from typing import Any

IGNORED = 255
"""The index of pixels of no known class: never trained on, never scored."""

MOST_CLASSES = IGNORED


def is_foreground(mask: Any) -> Any:
    """Say of each pixel of a mask, an array or a tensor, whether it belongs to a class above background."""
    return (mask > 0) & (mask != IGNORED)


def classes_of(mask: Any) -> Any:
    """Return the class indices of a mask, an array or a tensor, with background where it is ignored."""
    return mask * (mask != IGNORED)
