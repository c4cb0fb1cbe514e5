"""Write params.schema.json from the models in params/: `python -m tools.params_schema [--check]`.

By it an editor completes, explains and checks params.yaml. Its texts are the models' descriptions and docstrings, as
those of docs/reference/params.md are. Its words are those of JSON Schema's draft 7, which every editor knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segops.params.compact import differences
from segops.params.explain import models_in
from segops.params.project import Params
from tools.generated import write_or_check
from tools.params_table import meaning

FILE = Path("params.schema.json")
_WIDTH = 300


def schema() -> dict[str, Any]:
    """The JSON Schema of params.yaml."""
    whole = _in_draft_7(Params.model_json_schema())
    parts = whole["$defs"]
    for model in _models():
        part = whole if model is Params else parts[model.__name__]
        for name, field in model.model_fields.items():
            _explain(part["properties"][field.alias or name], field)
    whole["properties"]["candidates"]["additionalProperties"] = False
    for name in whole["properties"].keys() - set(whole["required"]):
        section = parts[whole["properties"][name]["$ref"].rpartition("/")[2]]
        section["type"] = ["object", "null"]  # a section without lines is one of defaults
    return {"$schema": "http://json-schema.org/draft-07/schema#", **whole}


def _models() -> Iterator[type[BaseModel]]:
    """All models of params.yaml, each once."""
    seen: set[type[BaseModel]] = set()
    waiting: list[type[BaseModel]] = [Params]
    while waiting:
        model = waiting.pop()
        if model not in seen:
            seen.add(model)
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
            yield model


def _explain(part: dict[str, Any], field: FieldInfo) -> None:
    """Give a param its description and default. Those of a section are its parts' own."""
    part.pop("default", None)
    text = meaning(field) if field.description or "$ref" not in part else ""
    if not field.is_required():
        default = _short(field.get_default(call_default_factory=True))
        if not isinstance(field.default, BaseModel) or default:
            part["default"] = default
            text = f"{text}. Default: {json.dumps(default)}"
    if text:
        part["description"] = text


def _short(default: Any) -> Any:
    """A default as JSON, of a section what differs from the defaults of its parts."""
    if isinstance(default, BaseModel):
        return differences(default)
    if isinstance(default, Mapping):
        return {str(key): _short(value) for key, value in default.items()}
    return [_short(value) for value in default] if isinstance(default, (list, tuple)) else default


def _in_draft_7(part: Any, names: bool = False) -> Any:
    """A schema without pydantic's titles, which are names again, and with draft 7's words.

    Args:
        names: whether the keys are names of params and models, not JSON Schema's.
    """
    if isinstance(part, list):
        return [_in_draft_7(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    inner = {
        key: _in_draft_7(value, key in ("properties", "patternProperties", "$defs")) for key, value in part.items()
    }
    if names:
        return inner
    if "prefixItems" in inner:  # of one kind each
        inner["items"], *others = inner.pop("prefixItems")
        assert all(kind == inner["items"] for kind in others)
    return {key: value for key, value in inner.items() if key not in ("title", "discriminator")}


def text(part: Any, indent: int = 0, key: str = "") -> str:
    """JSON in which what fits stands on one line, so that a change of a param changes a line."""
    flat = json.dumps(part, ensure_ascii=False)
    if not isinstance(part, (dict, list)) or indent + len(key) + len(flat) < _WIDTH or not part:
        return key + flat
    opening, closing = "{}" if isinstance(part, dict) else "[]"
    entries = (
        [(f"{json.dumps(name)}: ", value) for name, value in part.items()]
        if isinstance(part, dict)
        else [("", value) for value in part]
    )
    lines = [" " * (indent + 1) + text(value, indent + 1, name) for name, value in entries]
    return f"{key}{opening}\n" + ",\n".join(lines) + f"\n{' ' * indent}{closing}"


if __name__ == "__main__":
    write_or_check(FILE, lambda _: text(schema()) + "\n", "the schema is not that of src/segops/params/")
