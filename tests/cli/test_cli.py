"""The command line: fast help, one-line errors, no heavy imports on the way in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from segops.cli.main import app

HEAVY = ["torch", "mlflow", "pandas", "numpy", "great_expectations", "monai", "lightning_fabric", "pydantic", "sklearn"]
HEAVY += ["filelock", "hashlib"]  # a fifth of the tenth of a second that help takes


def _segops(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from segops.cli.main import main; main()", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['segops', '--help']\n"
        "from segops.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "HEAVY []" in done.stdout
    assert "ingest" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ingest"], "params.yaml: no such file"),
        (["predict", "only-one"], "at least one input and the output folder"),
        (["register"], "either a candidate's name or --missing"),
        (["leaderboard"], "comparison.json: no such file"),
        (["promote", "challenger"], "answer in a terminal or pass --yes"),
        (["promote", "challenger", "--yes", "--override", ""], "--override needs the reason that the ledger keeps"),
        (["noise", "net"], "models/candidates/net/model.json: no such file"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_1(tmp_path: Path, arguments: list[str], expected: str) -> None:
    if arguments[0] in ("register", "promote", "noise"):
        (tmp_path / "params.yaml").write_text(
            "{ingest: {source: unused}, candidates: {net: {model: {architecture: unet}}}}"
        )
    done = _segops(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("segops: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def _command_that_raises(error: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import errno, sys, segops.cli.main as cli\n"
        "@cli.app.command()\n"
        f"def fail() -> None: raise {error}\n"
        "sys.argv = ['segops', 'fail']\n"
        "cli.main()"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    done = _command_that_raises("OSError(errno.ENOSPC, 'No space left on device', 'data/dataset')", tmp_path)
    assert done.returncode == 75  # EX_TEMPFAIL
    assert done.stderr.startswith("segops: can't write data/dataset: no space left on its disk (")
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    done = _command_that_raises("KeyError('x')", tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_version_and_short_help_are_there_without_a_project(tmp_path: Path) -> None:
    assert re.fullmatch(r"segops \d+\.\d+\.\d+\n", _segops("--version", cwd=tmp_path).stdout)
    assert _segops("-h", cwd=tmp_path).stdout == _segops("--help", cwd=tmp_path).stdout
    assert "--missing" in _segops("register", "-h", cwd=tmp_path).stdout


def test_help_lists_every_command_once_under_what_it_is_for() -> None:
    group: Any = typer.main.get_command(app)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", shown, flags=re.MULTILINE)
    assert sorted(listed) == sorted(group.commands)
    assert shown.index("Decide:") < shown.index("\n  promote") < shown.index("Use a model")


def test_the_shell_completes_commands_and_the_candidates_of_params(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("candidates: {resunet: {}, unet: {}, unet_small: {}}")

    def completed(*words: str) -> list[str]:
        environment = {"_SEGOPS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
        code = "import sys; sys.argv = ['segops']; from segops.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, **environment, "COMP_CWORD": str(len(words) - 1)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.split()

    assert completed("segops", "comp") == ["compare"]
    assert completed("segops", "train", "un") == ["unet", "unet_small"]
    (tmp_path / "params.yaml").write_text("candidates: [")
    assert completed("segops", "train", "un") == []
