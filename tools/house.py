"""Count how the house stands: `python -m tools.house [--package src/segops]`. Exit code 1 where a limit is broken.

Rooms are the packages of `segops`. Arrows are imports, those for types too.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp

STAGES = frozenset(
    f"segops.stages.{name}"
    for name in ("ingest", "validate", "split", "prepare", "tune", "train", "evaluate", "register", "compare")
)
LOOSE = 6  # most modules that stand in no room: errors, files, locks, progress, secrets, kubeflow
LONG_FILE, LONG_FUNCTION = 300, 50  # lines


def main() -> None:
    """Print each count with its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=Path("src/segops"))
    package = parser.parse_args().package
    sys.path.insert(0, str(package.parent.resolve()))
    graph = grimp.build_graph(package.name, cache_dir=None)
    files = sorted(package.rglob("*.py"))
    counts: list[tuple[str, int, int | None]] = [
        ("modules in stages/", len(_below(graph, f"{package.name}.stages")), len(STAGES)),
        ("arrows among stages", _arrows(graph, f"{package.name}.stages"), 0),
        ("modules in no room", sum(path.name != "__init__.py" for path in package.glob("*.py")), LOOSE),
        ("rooms in a circle", len(_circle(graph, package.name)), 0),
        ("files over 300 lines", sum(len(path.read_text().splitlines()) > LONG_FILE for path in files), 0),
        ("functions over 50 lines", sum(size > LONG_FUNCTION for path in files for size in _functions(path)), None),
        ("names of a file in two rooms", len(_twice(package)), None),
        ("lines of templates in strings", sum(_template_lines(path) for path in files), None),
        ("lines with the name `one`", sum(_lines(path, r"\bone\b") for path in files), None),
        ("lines", sum(len(path.read_text().splitlines()) for path in files), None),
    ]
    for what, count, limit in counts:
        print(f"{count:6}  {what}{'' if limit is None else f' (at most {limit})'}")
    sys.exit(any(limit is not None and count > limit for _, count, limit in counts))


def _below(graph: grimp.ImportGraph, package: str) -> set[str]:
    return graph.find_descendants(package) if package in graph.modules else set()


def _arrows(graph: grimp.ImportGraph, package: str) -> int:
    inside = _below(graph, package)
    return sum(len(graph.find_modules_directly_imported_by(module) & inside) for module in inside)


def _circle(graph: grimp.ImportGraph, package: str) -> set[str]:
    """The rooms from which a way of arrows leads back to them."""
    arrows = defaultdict(set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = (name.split(".")[1] if "." in name else name for name in (module, imported))
            if here != there and package not in (here, there):
                arrows[here].add(there)

    def reached(room: str) -> set[str]:
        found: set[str] = set()
        waiting = [room]
        while waiting:
            new = arrows[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    return {room for room in list(arrows) if room in reached(room)}


def _functions(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.end_lineno - node.lineno + 1


def _twice(package: Path) -> set[str]:
    rooms = defaultdict(set)
    for path in package.rglob("*.py"):
        rooms[path.name].add(path.parent)
    return {name for name, folders in rooms.items() if len(folders) > 1 and name != "__init__.py"}


def _template_lines(path: Path) -> int:
    """Lines of strings that Jinja fills."""
    texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    return sum(text.count("\n") for text in texts if isinstance(text, str) and re.search(r"{%|{{ ", text))


def _lines(path: Path, pattern: str) -> int:
    return sum(re.search(pattern, line) is not None for line in path.read_text().splitlines())


if __name__ == "__main__":
    main()
