"""Try every kind of fault and count what became of it: `python -m benchmarks.chaos [KIND ..] [--share 0.1]`.

The kinds are the modules of this package that have `NAME` and `run`. Outcomes are kept in `--out` as they come, a file
a kind; a kind that is finished there isn't run again without `--again`. Exit code 1 where a case ended badly.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import cast

import benchmarks.chaos
from benchmarks.chaos.outcome import BAD, VERDICTS, Kind, Outcome

_END = '{"end": true}\n'  # the last line of a finished kind's file


def main() -> None:
    """Run the kinds that are asked for, print their outcomes, then the table and the bad cases of all kinds kept."""
    kinds = _kinds()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(kinds)}; all without")
    parser.add_argument("--share", type=float, default=1.0, help="of each kind's faults, above 0 and up to 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/chaos"))
    parser.add_argument("--again", action="store_true", help="run finished kinds too")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(kinds):
        parser.error(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.kinds or kinds:
        path = options.out / f"{name}.jsonl"
        if options.again or not _is_finished(path):
            _run(kinds[name], path, options.share, options.seed)
    outcomes = [outcome for path in sorted(options.out.glob("*.jsonl")) for outcome in _read(path)]
    page = table(outcomes)
    (options.out / "table.md").write_text(page)
    print(page)
    sys.exit(any(outcome.verdict in BAD for outcome in outcomes))


def _kinds() -> dict[str, Kind]:
    """Import the modules of this package and return those that are kinds, by name."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(benchmarks.chaos.__path__) if entry.name != "__main__")
    modules = [importlib.import_module(f"benchmarks.chaos.{name}") for name in names]
    kinds = [cast("Kind", module) for module in modules if hasattr(module, "NAME") and hasattr(module, "run")]
    return {kind.NAME: kind for kind in kinds}


def _run(kind: Kind, path: Path, share: float, seed: int) -> None:
    """Run a kind in a temporary folder, keep and print its outcomes."""
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{kind.NAME}-"))
    try:
        with path.open("w", encoding="utf-8") as file:
            for outcome in kind.run(folder, share, seed):
                file.write(json.dumps(asdict(outcome)) + "\n")
                file.flush()
                print(f"{outcome.kind}: {outcome.case}: {outcome.verdict} {outcome.detail}".rstrip(), flush=True)
            file.write(_END)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{kind.NAME}: {time.monotonic() - begin:.0f} s", flush=True)


def _is_finished(path: Path) -> bool:
    """Tell whether a kind's file holds its end."""
    return path.exists() and path.read_text(encoding="utf-8").endswith(_END)


def _read(path: Path) -> list[Outcome]:
    """Read a kind's outcomes."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Outcome(**row) for row in rows if "end" not in row]


def table(outcomes: list[Outcome]) -> str:
    """Write how often each kind ended in each way, as a Markdown table, and the bad cases below it."""
    lines = [f"| kind | tried | {' | '.join(VERDICTS)} |", "|---|" + "---|" * (1 + len(VERDICTS))]
    for kind in sorted({outcome.kind for outcome in outcomes}):
        counts = Counter(outcome.verdict for outcome in outcomes if outcome.kind == kind)
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(str(counts[verdict]) for verdict in VERDICTS)} |")
    bad = [outcome for outcome in outcomes if outcome.verdict in BAD]
    lines += ["", *(f"- {case.kind}, {case.case}: {case.verdict}; {case.detail}" for case in bad)]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
