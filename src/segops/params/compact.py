"""Writes params as the short text that a step receives: what differs from the defaults.

Kubeflow's cache compares such texts, so equal params have the same text. Defaults need not be in it: they are code,
whose hash is compared too. The text is YAML on a single line, which needs few quotes: Kubeflow keeps it several times
per step as JSON in JSON in JSON, where each quote takes 8 bytes. JSON can be read in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from segops.errors import UserError
from segops.params.explain import explain

ModelType = TypeVar("ModelType", bound=BaseModel)
# Mappings that mean the same in any order. In the others it counts: the first of mask_values is the background, and a
# search's space is sampled in its order.
_UNORDERED = {"class_colours", "when"}


def as_text(params: BaseModel) -> str:
    """Return what differs from the defaults, as a line of YAML."""
    text = yaml.safe_dump(
        differences(params), default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return str(text).strip()


def from_text(model: type[ModelType], text: str) -> ModelType:
    """Read params from their text. Raises UserError with a line for the first mistake."""
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{model.__name__}: not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return model.model_validate({} if read is None else read)
    except ValidationError as error:
        raise UserError(f"{model.__name__}: {explain(error, model)}") from None


def differences(params: BaseModel) -> dict[str, Any]:
    """Return the fields that aren't the model's default, as JSON values; a union's tag is always there."""
    different = {}
    for name, field in type(params).model_fields.items():
        value = _plain(getattr(params, name), name)
        if _must_be_given(field) or _text(value) != _text(_plain(field.get_default(call_default_factory=True), name)):
            different[field.alias or name] = value
    return different


def _must_be_given(field: FieldInfo) -> bool:
    """Return whether a field is always written: it has no default, or it is a union's tag."""
    is_tag = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    return field.is_required() or is_tag


def _plain(value: Any, name: str) -> Any:
    """Turn a value into JSON values without defaults; mappings whose order means nothing are sorted."""
    if isinstance(value, BaseModel):
        return differences(value)
    if isinstance(value, Mapping):
        items = sorted(value.items()) if name in _UNORDERED else value.items()
        return {key: _plain(inner, str(key)) for key, inner in items}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, "") for inner in value]
    return to_jsonable_python(value)


def _text(value: Any) -> str:
    """Return a value as JSON text, which tells 0 from False and orders of keys apart, as == doesn't."""
    return json.dumps(value)
