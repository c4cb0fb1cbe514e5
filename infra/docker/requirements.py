"""The part of requirements.lock that is installed: requirements.py [--image NAME] [--extra NAME].. [--cpu] [PACKAGE..]

Printed are these packages and all that they bring along, by what the lock says after `via`; pip checks the hashes.
An extra is one of pyproject.toml's, with the project's own dependencies. --cpu leaves out torch, whose builds for CPUs
have hashes of their own (torch-cpu.lock), and what only its build for CUDA needs.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

IMAGES = {  # by the name of each: extras of the project, or packages
    "data-python": (["registry", "local", "kubeflow", "volumes"], []),
    "train-python": (["registry", "local", "kubeflow", "volumes", "train", "postgresql"], []),
    "mlflow": ([], ["mlflow", "boto3", "psycopg"]),
    "mlflow-workspaces": ([], ["mlflow", "boto3", "psycopg", "kubernetes", "graphql-core"]),
    "serve": ([], ["torch", "mlflow", "numpy"]),
}
CUDA = re.compile(r"torch|triton|cuda-.*|nvidia-.*")


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """Each package of a lock that uv wrote: its lines with hashes, and the packages that ask for it."""
    found = {}
    for entry in re.split(r"\n(?=[a-z0-9])", f"\n{lock}")[1:]:
        pinned, _, via = entry.partition("    # via")
        found[pinned.partition("==")[0]] = (
            pinned,
            set(re.findall(r"^(?: |    #   )([a-z0-9][a-z0-9.-]*)$", via, re.M)),
        )
    return found


def needed(found: dict[str, tuple[str, set[str]]], roots: set[str]) -> set[str]:
    """These packages, and what they bring along."""
    names: set[str] = set()
    while roots:
        names |= roots
        roots = {name for name, (_, parents) in found.items() if parents & roots} - names
    return names


def name_of(requirement: str) -> str:
    """A requirement's package, spelt as the lock spells it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def main() -> None:
    """Read ./pyproject.toml and ./requirements.lock."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", choices=IMAGES)
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("packages", nargs="*")
    given = parser.parse_args()
    extras, packages = IMAGES.get(given.image, (given.extra, given.packages))
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*packages, *(project["dependencies"] if extras else [])]
    listed += [line for extra in extras for line in project["optional-dependencies"][extra]]
    found = entries(Path("requirements.lock").read_text(encoding="utf-8"))
    if unknown := {name_of(line) for line in listed} - found.keys():
        sys.exit(f"requirements.lock has no {', '.join(sorted(unknown))}: make lock")
    names = needed(found, {name_of(line) for line in listed})
    left_out = {name for name in names if given.cpu and CUDA.fullmatch(name)}
    sys.stdout.write("".join(found[name][0].rstrip() + "\n" for name in sorted(names - left_out)))


if __name__ == "__main__":
    main()
