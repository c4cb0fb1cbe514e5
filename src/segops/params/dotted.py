"""Changes a few values of params by their dotted paths, such as `recipe.learning_rate`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel

from segops.errors import UserError

ModelType = TypeVar("ModelType", bound=BaseModel)


def changed(model: ModelType, values: Mapping[str, Any]) -> ModelType:
    """Return a checked copy of `model` with `values` by dotted path.

    Another variant of a union (its tag's path, such as `model.architecture`) comes with that variant's defaults; other
    values then apply to it.

    Raises: UserError for a path that doesn't exist, with the nearest right path; pydantic's ValidationError for a value
        that the model refuses.
    """
    tags = {path: value for path, value in values.items() if _chooses_variant(model, path, value)}
    if tags:
        dump = _dump(model)
        for path, value in tags.items():
            parent, _, tag = path.rpartition(".")
            put(dump, parent, {tag: value})
        model = type(model).model_validate(dump)
    dump = _dump(model)
    for path, value in values.items():
        put(dump, path, value)
    return type(model).model_validate(dump)


def value_at(model: BaseModel, path: str) -> Any:
    """Return the JSON value at a dotted path. Raises UserError where there is none."""
    dump = _dump(model)
    value = dump
    for key in _keys(dump, path):
        value = value[key]
    return value


def is_tag(model: BaseModel, path: str) -> bool:
    """Return whether the value at `path` names the variant of a union, as `model.architecture` does."""
    node: Any = model
    *parents, last = path.split(".")
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else getattr(node, _field(node, key), None)
    field = type(node).model_fields.get(last) if isinstance(node, BaseModel) else None
    return field is not None and get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path of nested dicts. Raises UserError where there is no such path."""
    *parents, last = _keys(values, path)
    node = values
    for key in parents:
        node = node[key]
    node[last] = value


def _chooses_variant(model: BaseModel, path: str, value: Any) -> bool:
    """Return whether a value changes the variant of a union."""
    return is_tag(model, path) and value != value_at(model, path)


def _keys(values: dict[str, Any], path: str) -> list[str]:
    """Split a dotted path into keys. Raises UserError for a key that isn't there, with the nearest right key."""
    keys = path.split(".")
    node: Any = values
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            known = [str(known_key) for known_key in node] if isinstance(node, dict) else []
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise UserError(f"{path}: there is no '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        node = node[key]
    return keys


def _field(model: Any, key: str) -> str:
    """Return a field's name by its alias."""
    fields = type(model).model_fields if isinstance(model, BaseModel) else {}
    return next((name for name, field in fields.items() if field.alias == key), key)


def _dump(model: BaseModel) -> dict[str, Any]:
    """Return a model as JSON values by their names in params.yaml."""
    return model.model_dump(mode="json", by_alias=True)
