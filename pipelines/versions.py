"""What a run reads and runs, named for Kubeflow's cache."""

from __future__ import annotations

import uuid
from pathlib import Path

import segops
from segops import files
from segops.params.ingest import IngestParams


def code_version() -> str:
    """Hash of the package's Python files."""
    root = Path(segops.__file__).parent
    lines = [f"{path.relative_to(root).as_posix()} {files.sha256_file(path)}" for path in sorted(root.rglob("*.py"))]
    return files.sha256_lines(lines)


def data_version(params: IngestParams) -> str:
    """What names the state of the source; a new name each time for a source that nothing pins.

    Raises: UserError as `fetch` for a `dvc://` source that isn't there.
    """
    if params.sha256 is not None:
        return params.sha256
    if params.source.startswith("synthetic://"):
        return params.source
    if params.source.startswith("dvc://"):
        from segops.data.dvc_repo import resolve

        return resolve(params.source, param="ingest.source")
    return f"unpinned-{uuid.uuid4()}"
