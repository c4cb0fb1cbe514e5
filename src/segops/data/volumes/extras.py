"""Imports the libraries of the extra `volumes`, which a project of pictures doesn't need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from segops.errors import UserError


def extra(module: str, use: str) -> Any:
    """Import a module of the extra. Raises UserError that says how to install it.

    Args:
        use: what needs it.
    """
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise UserError(f"{use} need {package}, which isn't here: pip install 'segops[volumes]'") from None
