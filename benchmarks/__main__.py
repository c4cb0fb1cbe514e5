"""One table of ratios with their spread, all of one run: what is done here beside the plain way.

    python -m benchmarks [--rounds 3] [PART ...]

Each part runs in a process of its own; by itself, `python -m benchmarks.PART`, it takes more options. Median, least and
largest are over rounds that go through all variants in turn. A part that fails doesn't stop the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from benchmarks.ratios import Ratio, table

PARTS = ("train_step", "inference", "folder_prediction", "prepare_memory", "s3_ingest")


def main() -> int:
    """Run the parts, print the table, and return 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    ratios, failed = run(arguments.parts or PARTS, arguments.rounds)
    print(table(ratios))
    for part, reason in failed.items():
        print(f"{part} failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


def run(parts: tuple[str, ...] | list[str], rounds: int) -> tuple[list[Ratio], dict[str, str]]:
    """Return the ratios of all parts, and why a part has none."""
    ratios: list[Ratio] = []
    failed: dict[str, str] = {}
    for part in parts:
        began = time.perf_counter()
        print(f"{part}, {rounds} rounds ..", file=sys.stderr, flush=True)
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                ratios += process.submit(import_module(f"benchmarks.{part}").ratios, rounds).result()
        except Exception as error:  # whatever a part meets, the others have their rows
            failed[part] = f"{type(error).__name__}: {error}"
        print(f"{part} took {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return ratios, failed


if __name__ == "__main__":
    sys.exit(main())
