"""What a run runs, named for Kubeflow's cache; what it reads is asked when it starts."""

from __future__ import annotations

from pathlib import Path

import segops
from segops import files


def code_version() -> str:
    """Hash of the package's Python files."""
    root = Path(segops.__file__).parent
    lines = [f"{path.relative_to(root).as_posix()} {files.sha256_file(path)}" for path in sorted(root.rglob("*.py"))]
    return files.sha256_lines(lines)
