"""Names what a run runs, for Kubeflow's cache; what it reads is asked when it starts."""

from __future__ import annotations

from pathlib import Path

import components
import segops
from segops import files

_NOT_IN_A_STEP = ("conftest.py", "readmes.py")


def code_version() -> str:
    """Return the hash, 32 digits, of the code and the templates that steps use."""
    return files.sha256_lines(f"{name} {files.sha256_file(path)}" for name, path in sorted(step_files().items()))[:32]


def step_files() -> dict[str, Path]:
    """Return the files of `segops` and the Python files of components, by their place in images."""
    package, adapters = Path(segops.__file__).parent, Path(components.__file__).parent
    steps = [path for path in (*adapters.glob("*.py"), *adapters.glob("*/*.py")) if path.name not in _NOT_IN_A_STEP]
    within = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    named = {f"segops/{path.relative_to(package).as_posix()}": path for path in within}
    return named | {f"components/{path.relative_to(adapters).as_posix()}": path for path in steps}
