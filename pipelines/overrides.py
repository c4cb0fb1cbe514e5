"""Changing single params on the command line, by their dotted path."""

from __future__ import annotations

import difflib
from typing import Any

import yaml
from pydantic import ValidationError

from segops.errors import UserError
from segops.params import Params, explain


def override(params: Params, changes: list[str]) -> Params:
    """Params with `a.b=value` changes, values in YAML.

    Raises: UserError naming the change: not of that form, an unknown path, a value that the param doesn't take.
    """
    values = params.model_dump(mode="json", by_alias=True)
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise UserError(f"--set {change}: write it as section.param=value")
        _set(values, path, yaml.safe_load(text))
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--set: {explain(error, Params)}") from None


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    at: Any = values
    for key in (*parents, last):
        if not isinstance(at, dict) or key not in at:
            known = list(at) if isinstance(at, dict) else []
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise UserError(f"--set {path}: there is no '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        if key is last:
            at[key] = value
        else:
            at = at[key]
