"""The changes that `tools.mutants` makes: small ones, each of which should make some test fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_NAMES = {
    "any": "all", "all": "any", "min": "max", "max": "min", "mean": "sum", "sum": "mean", "argmax": "argmin",
    "argmin": "argmax", "maximum": "minimum", "minimum": "maximum", "low": "mean", "high": "mean", "left": "right",
    "right": "left",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        path: of the module.
        line: of the change, from 1.
        source: that line, without its indentation.
        change: before and after.
        text: of the whole module.
    """

    path: str
    line: int
    source: str
    change: str
    text: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it when other lines move."""
        return self.path, self.source, self.change


def mutants_of(path: str, text: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines.

    Strings, annotations and assertions stay as they are; `strict=True` of a zip is an assertion, too.
    """
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    content, found = text.encode(), []
    for node in _nodes(ast.parse(text)):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        for changed in _changes(node):
            after = ast.unparse(changed)
            shown = after if isinstance(node, ast.stmt) else f"({after})"
            before = ast.unparse(node)
            found.append(
                Mutant(
                    path=path,
                    line=node.lineno,
                    source=lines[node.lineno - 1].strip(),
                    change=f"{before} -> {after}".replace("\n", " "),
                    text=(content[:begin] + shown.encode() + content[end:]).decode(),
                )
            )
    return sorted(found, key=lambda one: one.line)


def _nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Expressions and statements that may change. In f-strings Python 3.11 doesn't know where they stand."""
    if isinstance(node, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _changes(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """Each changed copy of one node; its children are changed when it is their turn."""
    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                yield _with(node, ops=[*ops[:index], _OPERATORS[type(op)](), *ops[index + 1 :]])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in _OPERATORS:
            if not _joins_text(node):
                yield _with(node, op=_OPERATORS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield deepcopy(node.operand)
        case ast.Constant(value=bool() | int() | float() as value):
            yield ast.Constant(_other(value))
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield _with(node, func=ast.Name(_NAMES[name], ast.Load()))
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in _NAMES:
            yield _with(node, attr=_NAMES[name])
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign():
            yield ast.Pass()


def _with(node: ast.AST, **changed: object) -> ast.AST:
    copy = deepcopy(node)
    for name, value in changed.items():
        setattr(copy, name, value)
    return copy


def _other(value: bool | float) -> bool | float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 2 or 1.0


def _joins_text(node: ast.AST) -> bool:
    """Whether an operation is one of strings, where another operator is no program."""
    sides = [getattr(node, side, None) for side in ("left", "right")]
    return any(isinstance(getattr(side, "value", None), str) or isinstance(side, ast.JoinedStr) for side in sides)
