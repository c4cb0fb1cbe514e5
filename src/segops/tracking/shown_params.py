"""Which of a candidate's many params its run shows: a table of ninety columns compares nothing.

MLflow's chart view also writes all of a run's params above each of its pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from segops.params.candidate import CandidateParams
from segops.params.section import Section

# Always shown, so that the columns that people compare by are never empty. Required ones, such as the architecture and
# the names of loss and schedule, are shown anyway.
KEY_PARAMS = frozenset(
    {
        "input.size",
        "recipe.epochs",
        "recipe.batch_size",
        "recipe.optimizer",
        "recipe.learning_rate",
        "recipe.weight_decay",
        "recipe.ema_decay",
        "recipe.loss.bce_weight",
        "recipe.loss.dice_weight",
        "recipe.seed",
    }
)


def shown_params(params: CandidateParams) -> dict[str, str]:
    """Select the params to show, by dotted path: KEY_PARAMS, required ones, and those that differ from the default.

    A part that is optional, or of another kind than the default one, is shown whole. For each further network,
    `members.<n>.<path>` shows what differs from the candidate's own. What trains nothing has no recipe and no size.
    """
    shown = dict(_shown(params))
    if not params.trained:
        return {path: text for path, text in shown.items() if path != "input.size" and not path.startswith("recipe.")}
    own = dict(_all(params))
    for number, member in enumerate(params.members, start=1):
        shown |= {f"members.{number}.{path}": text for path, text in _all(member) if own.get(path) != text}
    return shown


def _shown(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of the params of a section that are worth showing, except those of further networks."""
    for name, field in type(section).model_fields.items():
        path, value = f"{prefix}{name}", getattr(section, name)
        if name == "members":
            continue
        if isinstance(value, Section):
            yield from (_all if _chosen(field, value) else _shown)(value, f"{path}.")
        elif path in KEY_PARAMS or field.is_required() or value != field.get_default():
            yield path, _text(value)


def _all(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of every param of a section, except those of further networks."""
    for name in type(section).model_fields:
        path, value = f"{prefix}{name}", getattr(section, name)
        if isinstance(value, Section):
            yield from _all(value, f"{path}.")
        elif name != "members":
            yield path, _text(value)


def _chosen(field: FieldInfo, value: Section) -> bool:
    """Tell whether somebody chose this kind of part instead of the default."""
    return not field.is_required() and type(field.get_default()) is not type(value)


def _text(value: Any) -> str:
    """Write a param's value as text: None as `null`, a tuple as a list."""
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)
