"""Write the table in docs/reference/params.md from the models in params/: `python -m tools.params_table [--check]`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from segops.params.explain import models_in
from segops.params.project import Params
from tools.generated import between, write_or_check

PAGE = Path("docs/reference/params.md")
BEGIN, END = "<!-- params: begin (make docs) -->", "<!-- params: end -->"
_KEYED = {  # maps whose keys a user chooses
    "candidates": "candidates.<name>",
    "tune.searches": "tune.searches.<name>",
    "tune.searches.<name>.space": "tune.searches.<name>.space.<path>",
}
_BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def table() -> str:
    """The markdown table: a row a param, in the order of the file."""
    rows = [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in _rows(Params, "")]
    return "\n".join(["| param | values | default | meaning |", "|---|---|---|---|", *rows])


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        # A list of sections is one param: its parts are described where they stand alone.
        inner = [] if get_origin(field.annotation) is tuple else models_in(field.annotation)
        key = _KEYED.get(key, key)
        if not inner:
            yield key, _values(model, name, field), _default(field), meaning(field)
        elif not field.is_required() and field.default is None:
            yield key, "null or map", "`null`", field.description or ""
        for one in inner:
            tag = _tag(one)
            yield from _rows(one, f"{key}[{tag}]." if tag else f"{key}.")


def meaning(field: FieldInfo) -> str:
    """What a param is for. A union's tag is explained by the variants."""
    return field.description or "selects the variant"


def _tag(model: type[BaseModel]) -> str | None:
    first: dict[str, Any] = next(iter(model.model_json_schema()["properties"].values()))
    return first.get("const")


def _values(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    schema: dict[str, Any] = model.model_json_schema()["properties"][field.alias or name]
    options = schema.get("anyOf", [schema])
    values = [_type(option) for option in options]
    bounds = [
        text.format(getattr(rule, bound))
        for rule in field.metadata
        for bound, text in _BOUNDS.items()
        if getattr(rule, bound, None) is not None
    ]
    return " or ".join(values) + (f", {', '.join(bounds)}" if bounds else "")


def _type(option: dict[str, Any]) -> str:
    if "const" in option:
        return f"`{option['const']}`"
    if "enum" in option:
        return ", ".join(f"`{one}`" for one in option["enum"])
    names = {"integer": "int", "number": "float", "string": "text", "boolean": "bool", "object": "map", "array": "list"}
    return names[option["type"]] if option["type"] != "null" else "null"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def replace_table(text: str) -> str:
    """Put the present table between the two markers of the page's text."""
    return between(text, BEGIN, END, table())


if __name__ == "__main__":
    write_or_check(PAGE, replace_table, "the params table is not that of src/segops/params/")
