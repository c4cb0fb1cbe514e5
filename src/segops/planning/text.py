"""Turns a plan into the lines of params.yaml: a line a param, with the reason as its comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from segops.planning.baseline import BASELINE
from segops.planning.decisions import Decision, Plan

_WIDTH = 118
_EVERY = "candidates.*."
# dvc.yaml names these sections and params, so they are always there.
_OPEN = ("tune", "evaluate", "register", "compare")
_SECTIONS = ("tracking", "ingest", "validate", "split", "candidates", *_OPEN)


_HEAD = """\
# yaml-language-server: $schema=params.schema.json
# Written by `segops init {source}`.
# Each comment says why; where it isn't sure, look and correct. The rules are in docs/reference/plan.md.
# A param that isn't here has its default: docs/reference/params.md.

runtime: {{threads: {threads}, device: auto, devices: 1}}
"""


def as_yaml(plan: Plan, source: str, threads: int) -> str:
    """Return the text of params.yaml.

    Args:
        source: as it was given to the command.
        threads: of `runtime`.
    """
    lines = {name: list(_section(plan, name)) for name in _SECTIONS}
    lines["tracking"].insert(0, "  experiment: segops  # of MLflow")
    lines["candidates"] = list(_candidates(plan))
    body = ["\n".join(["", f"{name}:", *inside]) for name, inside in lines.items() if inside]
    body += ["", *(f"{name}: {{}}" for name in _OPEN)]
    return _HEAD.format(source=" ".join(source.split()), threads=threads) + "\n".join(body) + "\n"


def _section(plan: Plan, section: str) -> Iterator[str]:
    """Yield the lines of a section of single params."""
    for decision in plan.decisions.values():
        head, _, name = decision.param.partition(".")
        if head == section:
            yield from _line(decision, name, 2)


def flow(value: Any) -> str:
    """Write a value as YAML on one line; the keys of a mapping as text, which DVC needs."""
    if isinstance(value, Mapping):
        value = _text_keys(value)
    dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    return str(dumped).removesuffix("...\n").strip()


def reason(decision: Decision) -> str:
    """Word why a param has its value."""
    return decision.why if decision.sure else f"not sure: {decision.why}"


def _text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _text_keys(inner) if isinstance(inner, Mapping) else inner for key, inner in value.items()}


def _line(decision: Decision, name: str, indent: int, value: Any = None) -> Iterator[str]:
    """Yield a param's line with its comment, which goes above where it doesn't fit beside."""
    text = f"{' ' * indent}{name}: {flow(decision.value if value is None else value)}"
    why = reason(decision)
    if len(text) + 4 + len(why) <= _WIDTH:
        yield f"{text}  # {why}"
        return
    start = f"{' ' * indent}# "
    yield from textwrap.wrap(why, _WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False)
    yield text


def _candidates(plan: Plan) -> Iterator[str]:
    """Yield the first candidate with a line and a comment a param, those that differ in the network alone on a line a
    section, and others by lines, without the comments that stand above."""
    for number, candidate in enumerate(plan["candidates.*.model"]):
        decided: dict[str, Decision] = {}
        for start in (_EVERY, f"candidates.{candidate}."):  # its own in place of what all have
            for decision in plan.decisions.values():
                if decision.param.startswith(start):
                    decided[decision.param.removeprefix(start)] = decision
        decided = {name: decided[name] for name in sorted(decided, key=_place)}
        if number and all(decision.param.startswith(_EVERY) for decision in decided.values()):
            yield f"  {candidate}:  # as above but for the network"
            yield from _sections(decided, candidate)
        else:
            yield f"  {candidate}:"
            yield from _lines(decided, candidate, repeated=_EVERY if number else None)
    if BASELINE in plan.decisions:
        decision = plan.decisions[BASELINE]
        yield f"  {BASELINE.rpartition('.')[2]}:  # {decision.why}"
        yield from (f"    {head}: {flow(value)}" for head, value in decision.value.items())


def _lines(decided: Mapping[str, Decision], candidate: str, repeated: str | None) -> Iterator[str]:
    """Yield a line a param, with a comment but where the decision's param begins with `repeated`."""
    opened: set[str] = set()
    for name, decision in decided.items():
        head, _, own = name.partition(".")
        value = decision.value[candidate] if head == "model" else decision.value
        indent, shown = (6, own) if own else (4, head)
        if own and head not in opened:
            yield f"    {head}:"
            opened.add(head)
        if repeated and decision.param.startswith(repeated):
            yield f"{' ' * indent}{shown}: {flow(value)}"
        else:
            yield from _line(decision, shown, indent, value)


def _sections(decided: Mapping[str, Decision], candidate: str) -> Iterator[str]:
    """Yield a line a section."""
    tree: dict[str, Any] = {}
    for name, decision in decided.items():
        head, _, own = name.partition(".")
        if own:
            tree.setdefault(head, {})[own] = decision.value
        else:
            tree[head] = decision.value[candidate] if head == "model" else decision.value
    for head, value in tree.items():
        if value != "none":
            yield from _wrapped(f"    {head}: {flow(value)}")


def _wrapped(line: str) -> list[str]:
    """Break a long line of flow YAML after commas."""
    return textwrap.wrap(line, _WIDTH, subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)


def _place(name: str) -> int:
    """Return the place of a candidate's param: its model first, then the input, the recipe and the rest."""
    head = name.partition(".")[0]
    order = ("model", "input", "recipe", "inference", "cross_validation")
    return order.index(head) if head in order else len(order)
