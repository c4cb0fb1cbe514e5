"""Explains what is wrong in a params file, in a line."""

from __future__ import annotations

import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from segops.secrets import without_secrets

_TYPE = re.compile(r"bool|int|float|str|(literal|tuple|list|dict|constrained|function)\W.*")
_RANK = {"extra_forbidden": 0, "missing": 2}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Word the first mistake of a validation error in a line: dotted key, what is wrong, the nearest right key."""
    # Where a key is unknown and another is missing, the unknown one is most often the missing one with a typo.
    first, *others = sorted(error.errors(), key=lambda mistake: _RANK.get(mistake["type"], 1))
    location, models = _follow(model, [str(part) for part in first["loc"]])
    key = ".".join(location)
    # Each type that a value could have had is an error of its own.
    same = [other for other in others if _follow(model, [str(part) for part in other["loc"]])[0] == location]
    more = f" (and {len(others) - len(same)} more)" if len(others) > len(same) else ""
    if first["type"] == "extra_forbidden":
        known = sorted({field.alias or name for inner in models for name, field in inner.model_fields.items()})
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}{more}"
    said = " or ".join(dict.fromkeys(mistake["msg"].removeprefix("Value error, ") for mistake in [first, *same]))
    if not key:
        return f"{said}{more}"
    if first["type"] == "missing":
        return f"'{key}' is missing{more}"
    shown = "" if isinstance(first["input"], dict) else f" = {without_secrets(repr(first['input']))}"
    return f"'{key}'{shown}: {said}{more}"


def _follow(model: type[BaseModel], location: list[str]) -> tuple[list[str], list[type[BaseModel]]]:
    """Walk an error's location: the dotted key as the file has it (without union tags), and the models around its end.

    pydantic puts a union's tag into the location, e.g. candidates.unet.model.unet.depth, and behind a key the type that
    its value could have had, e.g. augment.flip.bool.
    """
    shown: list[str] = []
    around: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        fields = [
            field for outer in around for name, field in outer.model_fields.items() if part == (field.alias or name)
        ]
        tagged = [outer for outer in around if _is_tag(outer, part)]
        if fields:
            around = [inner for field in fields for inner in models_in(field.annotation)]
        elif tagged:
            around = tagged
            continue
        elif not around and _TYPE.fullmatch(part):
            continue
        shown.append(part)
    last = [] if not around and location and _TYPE.fullmatch(location[-1]) else location[-1:]
    return [*shown, *last], around


def _is_tag(model: type[BaseModel], part: str) -> bool:
    """Return whether a part of an error's location is the tag of a model in a union."""
    return any(part in get_args(field.annotation) for field in model.model_fields.values())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models inside an annotation, however deep in unions, dicts and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]
