"""Which code a result depends on, read from the package's own files: an import graph, and the hash of its modules.

Comments, docstrings and empty lines can't change a result, so they aren't hashed. What is hashed is the rest of a
file's text and not its syntax tree, whose form differs between versions of Python.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import segops
from segops.files import sha256_file, sha256_lines

_PACKAGE = "segops"
_USED_TEMPLATE = re.compile(r"""{%-?\s*(?:extends|include|import|from)\s+["']([^"']+)["']""")


class Source(NamedTuple):
    """What a module's file says, as far as it can change a result.

    Attributes:
        sha256: of its text without comments, docstrings and empty lines.
        imports: dotted names in this package that it may import and the packages around them, but not for types alone.
        strings: string constants, by which it may name a template.
    """

    sha256: str
    imports: tuple[str, ...]
    strings: frozenset[str]


def code_sha256(root: str, *, without: Collection[str] = ()) -> str:
    """Hash all lines of `code_hashes`."""
    return sha256_lines(f"{name} {digest}" for name, digest in code_hashes(root, without=without).items())


def code_hashes(root: str, *, without: Collection[str] = ()) -> dict[str, str]:
    """Return the hash of `root`, of each module of this package that it imports at any depth, and of their templates.

    Args:
        root: a module's dotted name.
        without: modules, and packages with all that is in them, that are left out with what they alone import.

    Returns:
        Hashes by name, sorted: dotted names of modules, then file names of templates.
    """
    package = Path(segops.__file__).parent
    sources = imported_sources(package, root, without=without)
    templates = {path.name: path for path in (package / "reports" / "templates").iterdir()}
    named = {name for source in sources.values() for name in source.strings & templates.keys()}
    used = sorted(_with_used_templates(named, templates))
    return {name: sources[name].sha256 for name in sorted(sources)} | {
        name: sha256_file(templates[name]) for name in used
    }


def imported_sources(package: Path, root: str, *, without: Collection[str] = ()) -> dict[str, Source]:
    """Return by dotted name `root` and what it imports, on loading or in a function, but not for types alone.

    Args:
        package: the folder of `segops`, as source or installed.
        root, without: as `code_hashes` has them.
    """
    sources: dict[str, Source] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in sources and not any(name == left or name.startswith(f"{left}.") for left in without):
            sources[name] = _parse(_file(package, name).read_bytes())
            waiting += [other for other in sources[name].imports if _file(package, other).is_file()]
    return sources


def _with_used_templates(names: Collection[str], templates: dict[str, Path]) -> set[str]:
    """Add the templates that those of `names` extend and include."""
    used: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += _USED_TEMPLATE.findall(templates[name].read_text(encoding="utf-8"))
    return used


def _file(package: Path, name: str) -> Path:
    path = package.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _parse(content: bytes) -> Source:
    text = content.decode()
    tree = ast.parse(text)
    wanted: list[str] = []
    for node in _running(tree):
        if isinstance(node, ast.Import):
            wanted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wanted += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    # A package's own file runs before any module in it.
    parts = [name.split(".") for name in wanted if name.split(".")[0] == _PACKAGE]
    imports = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    strings = frozenset(value for value in constants if isinstance(value, str))
    return Source(sha256_lines(_effective_lines(text, tree)), tuple(sorted(imports)), strings)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a module but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


def _effective_lines(text: str, tree: ast.Module) -> list[str]:
    """Return the lines of a module but comments, strings that are statements (as docstrings are) and blank lines.

    Lines that end inside a string that is a value are returned as they are: their blanks are part of the value.
    """
    rows = text.split("\n")
    lines = [row.encode() for row in rows]  # the tree counts columns in bytes
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][: len(rows[row - 1][:column].encode())]
        inside.update(range(token.start[0], token.end[0]))  # only strings go over several lines
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            first, last = node.lineno, node.end_lineno or node.lineno
            rest = lines[last - 1][node.end_col_offset :]
            lines[first - 1 : last] = [lines[first - 1][: node.col_offset], *[b""] * (last - first)]
            lines[last - 1] += rest
            inside.difference_update(range(first, last))
    numbered = ((row, line.decode()) for row, line in enumerate(lines, 1))
    return [line if row in inside else line.rstrip() for row, line in numbered if row in inside or line.strip()]
