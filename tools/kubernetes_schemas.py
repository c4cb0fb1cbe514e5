"""Write Kubernetes' schemas of the kinds that the manifests use: `make kubernetes-schemas`, after a new kind.

kubernetes-validate carries the strict schemas of all kinds and releases, 69 MB; ours are what is reached from the
rendered kinds, without descriptions: tests/support/kubernetes_schemas/RELEASE.json, a definition a line.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path("tests/support/kubernetes_schemas")
RELEASES = ("1.32", "1.37")  # the oldest that is still in use, and the newest that was there
FOREIGN = {"InferenceService", "TrainingRuntime", "LocalQueue"}  # KServe's, Trainer's and Kueue's


def definition(kind: Any) -> str:
    """The name that an object's apiVersion and kind have among Kubernetes' definitions."""
    group, _, version = str(kind["apiVersion"]).rpartition("/")
    return f"io.k8s.api.{group.partition('.')[0] or 'core'}.{version}.{kind['kind']}"


def reached(every: dict[str, Any], roots: set[str]) -> dict[str, Any]:
    """These definitions and those that they refer to, without descriptions."""
    names: set[str] = set()
    while roots:
        names |= roots
        roots = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps([every[name] for name in roots]))) - names
    return {name: _bare(every[name]) for name in sorted(names)}


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    # A property may be called `description`: then it is a schema, not a text.
    return {k: _bare(v) for k, v in value.items() if not (k == "description" and isinstance(v, str))}


def main() -> None:
    """Take the rendered manifests' kinds from the folder of kubernetes-validate's schemas in argv."""
    rendered = sorted(Path("infra/kubernetes/rendered").glob("*.yaml"))
    objects = [item for path in rendered for item in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    kinds = {definition(item) for item in objects if item["kind"] not in FOREIGN}
    for release in RELEASES:
        source = Path(sys.argv[1]) / f"v{release}.0-local-strict" / "_definitions.json"
        found = reached(json.loads(source.read_text(encoding="utf-8"))["$defs"], kinds)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name], separators=(',', ':'))}" for name in found)
        (FOLDER / f"{release}.json").write_text(f'{{"$defs": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
