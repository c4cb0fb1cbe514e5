"""Writes each component's README.md from its docstring, its signature and metadata.yaml.

python -m components.readmes [--check]
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse

HERE = Path(__file__).parent


def readme(folder: Path) -> str:
    """Return the README of a component's folder."""
    name = folder.name
    component = getattr(importlib.import_module(f"components.{name}.component"), name)
    about = parse(component.python_func.__doc__)
    words = {param.arg_name: param.description or "" for param in about.params}
    if about.returns:
        words["Output"] = about.returns.description or ""  # kfp's name for what a component's function returns
    spec, metadata = component.component_spec, yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
    parts = [f"# {name}", _sentences(about), "## Inputs", _table(spec.inputs or {}, words)]
    if spec.outputs:
        parts += ["## Outputs", _table(spec.outputs, words)]
    return "\n\n".join([*parts, "## Metadata", _facts(metadata)]) + "\n"


def _sentences(about: Any) -> str:
    """Return the description of a docstring, without its Args."""
    return "\n\n".join(text for text in (about.short_description, about.long_description) if text)


def _table(values: dict[str, Any], words: dict[str, str]) -> str:
    """Format inputs or outputs as a markdown table."""
    rows = [f"| `{name}` | {_kind(value)} | {' '.join(words[name].split())} |" for name, value in values.items()]
    return "\n".join(["| name | type | meaning |", "|---|---|---|", *rows])


def _kind(value: Any) -> str:
    """Name the type of an input or output, as a reader knows it."""
    kind = str(value.type).removeprefix("system.").partition("@")[0]
    return f"list of {kind}" if getattr(value, "is_artifact_list", False) else kind


def _facts(metadata: dict[str, Any]) -> str:
    """Format metadata.yaml as a markdown list."""
    needs = [f"{need['name']} {need['version']}" for kind in metadata["dependencies"].values() for need in kind]
    lines = {"Stability": metadata["stability"], "Needs": ", ".join(needs), "Tags": ", ".join(metadata["tags"])}
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def main() -> None:
    """Write the READMEs, or with `--check` name those that are out of date."""
    texts = {path.parent / "README.md": readme(path.parent) for path in sorted(HERE.glob("*/metadata.yaml"))}
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" not in sys.argv:
        for path in stale:
            path.write_text(texts[path], encoding="utf-8")
    elif stale:
        sys.exit(
            f"stale: {', '.join(str(path.relative_to(HERE.parent)) for path in stale)}; run `make docs` and commit"
        )


if __name__ == "__main__":
    main()
