"""Which code a result depends on, read from the package's own files: an import graph, and the hash of its modules."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import segops
from segops.files import sha256_file, sha256_lines

_PACKAGE = "segops"


def code_sha256(root: str, *, without: Collection[str] = ()) -> str:
    """Hash of names and contents of `root` and of all modules of this package that it imports, at whatever remove.

    Args:
        root: a module's dotted name.
        without: modules, and packages with all that is in them, that are left out with what they alone import.
    """
    package = Path(segops.__file__).parent
    names = sorted(imported_modules(package, root, without=without))
    return sha256_lines(f"{name} {sha256_file(_file(package, name))}" for name in names)


def imported_modules(package: Path, root: str, *, without: Collection[str] = ()) -> set[str]:
    """Return the dotted names of `root` and of all that it imports, in functions too, but not for types alone.

    Args:
        package: the folder of `segops`, as source or installed.
        root, without: as `code_sha256` takes them.
    """
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found and not any(name == left_out or name.startswith(f"{left_out}.") for left_out in without):
            found.add(name)
            waiting += _imports(_file(package, name), package)
    return found


def _imports(file: Path, package: Path) -> list[str]:
    """Return the modules of this package that a file imports."""
    names = _named(file.read_bytes())
    return [name for name in names if _file(package, name).is_file()]


@cache
def _named(source: bytes) -> tuple[str, ...]:
    """Return what a module's source may import of this package, and the packages that it is in."""
    wanted: list[str] = []
    for node in _running(ast.parse(source)):
        if isinstance(node, ast.Import):
            wanted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            wanted += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    # A package's own file runs before any module in it.
    parts = [name.split(".") for name in wanted]
    every = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}
    return tuple(sorted(name for name in every if name.split(".")[0] == _PACKAGE))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a module but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield from _running(other)
            continue
        yield child
        yield from _running(child)


def _file(package: Path, name: str) -> Path:
    """Return the file of a module, or of a package's own code."""
    path = package.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
