"""What the images' layer of code holds, after .dockerignore and the Dockerfile."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

from components.step import COMMAND
from pipelines.versions import step_files


def test_the_code_layer_holds_the_files_that_the_caches_key_is_of(root: Path) -> None:
    """Another file in it would change a step without changing the key; a missing one would end the step."""
    present = [path for folder in ("src/segops", "components") for path in (root / folder).rglob("*") if path.is_file()]
    compiled = [path for path in present if "__pycache__" in path.parts]  # none in a clean checkout
    sent = [path.relative_to(root).as_posix() for path in present if not _ignored(root, path) and path not in compiled]
    assert {path.removeprefix("src/") for path in sent} == set(step_files())


def test_the_code_layer_is_of_all_images_that_run_steps(root: Path) -> None:
    stages = _stages((root / "infra" / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    assert "COPY src src" in stages["code"]
    assert "RUN pip install --no-deps --no-build-isolation --target /opt/code ." in stages["code"]
    assert "COPY components /opt/code/components" in stages["code"]
    for image in ("data", "train"):
        assert "COPY --from=code /opt/code /opt/code" in stages[image]


def test_a_step_looks_for_its_component_in_the_layer(tmp_path: Path) -> None:
    layer = tmp_path / "code"
    for name, path in step_files().items():
        (layer / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, layer / name)
    arguments = ["--function_to_execute", "no_such_step", "--executor_input", "{}"]
    done = subprocess.run(
        [sys.executable, *COMMAND[1:], *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(layer)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"No such file or directory: '{layer}/components/no_such_step/component.py'" in done.stderr


def _stages(dockerfile: str) -> dict[str, list[str]]:
    """The instructions of each stage, by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE)
    return {name: body.splitlines() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _ignored(root: Path, path: Path) -> bool:
    """As Docker decides it: the last rule counts that fits the path or a folder above it."""
    relative = PurePosixPath(path.relative_to(root))
    ignored = False
    for rule in (root / ".dockerignore").read_text(encoding="utf-8").split():
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*\*", ".*")
        fits = re.compile(pattern.replace(r"\*", "[^/]*"))
        if any(fits.fullmatch(str(part)) for part in (relative, *relative.parents[:-1])):
            ignored = not rule.startswith("!")
    return ignored
