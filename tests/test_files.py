"""Atomic files: the old content or the new, never half."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segops.errors import UserError
from segops.files import (
    atomic_path,
    output_folder,
    project_root,
    run_record,
    sha256_file,
    sha256_lines,
    write_json,
    write_text,
)


class StopError(Exception):
    """Something went wrong in the middle."""


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(StopError), atomic_path(path) as partial:
        partial.write_text("ne")
        raise StopError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed_at_the_first_write_and_the_folder_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, busy, glob, listed = tmp_path / ".a.0000.partial", tmp_path / ".a.1111.partial", Path.glob, []
    for path in (left, busy):
        path.touch()
    os.utime(left, (0, 0))

    def counted(folder: Path, pattern: str) -> Iterator[Path]:
        listed.append(folder)
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    for name in "abc":
        write_text(tmp_path / name, "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [busy.name, "a", "b", "c"]
    assert listed == [tmp_path]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(StopError), output_folder(folder) as partial:
        (partial / "new").touch()
        raise StopError
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_killed_runs_left_over_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").touch()
    with output_folder(tmp_path / "out") as partial:
        (partial / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_merge_keeps_what_another_stage_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "curves").mkdir(parents=True)
    (folder / "curves" / "old.csv").touch()
    (folder / "registration.json").touch()
    with output_folder(folder, merge=True) as partial:
        (partial / "curves").mkdir()
        (partial / "curves" / "new.csv").touch()
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "curves",
        "curves/new.csv",
        "registration.json",
    ]


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for inside in ("out", "deeper/out"):
        with pytest.raises(UserError, match=r"taken.*a file stands where its folder should be"):
            write_text(tmp_path / "taken" / inside, "text")
        with pytest.raises(UserError, match=r"taken.*a file stands"), output_folder(tmp_path / "taken" / inside):
            pass


def test_a_folder_in_a_files_place_and_a_file_in_a_folders_place_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"folder: a folder stands where this file should be"):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(UserError, match=r"file: a file stands where this folder"), output_folder(tmp_path / "file"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("path", ["", ".", "..", "/", "../project"])
def test_no_output_replaces_the_folder_that_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "precious").touch()
    monkeypatch.chdir(project)
    with (
        pytest.raises(UserError, match="holds the folder that this runs in; name a folder of its own"),
        output_folder(Path(path)),
    ):
        pass
    assert [entry.name for entry in project.iterdir()] == ["precious"]


_SECOND = """
import sys
from pathlib import Path
from segops.errors import UserError
from segops.files import output_folder
try:
    with output_folder(Path(sys.argv[1])) as partial:
        (partial / "second").touch()
except UserError as error:
    sys.exit(str(error))
"""


def test_a_second_process_is_kept_out_of_an_output_and_spoils_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [sys.executable, "-c", _SECOND, str(folder)]
    with output_folder(folder) as partial:
        (partial / "first").touch()
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert re.fullmatch(
        rf"{folder} is being written by pid {os.getpid()} on .*; wait for it or stop it, .*\n", second.stderr
    )
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [folder]
    subprocess.run(command, check=True)
    assert [path.name for path in folder.iterdir()] == ["second"]


def test_two_writers_of_one_file_leave_the_lasts_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as first:
        first.write_text("fir")
        write_text(path, "second")
        first.write_text("first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_partial_file_that_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    dead, alive = tmp_path / ".a.txt.00000000.partial", tmp_path / ".a.txt.11111111.partial"
    dead.touch()
    alive.touch()
    os.utime(dead, (0, 0))
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "a.txt"]


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(UserError, match=r"is on a file system without locks \(No locks available\)"):  # noqa: SIM117
        with output_folder(tmp_path / "out"):
            pass


def test_a_lock_holds_on_a_full_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        with output_folder(tmp_path / "out") as partial:
            (partial / "whole").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\ny\n")
    assert sha256_file(tmp_path / "a") == sha256_lines(["x", "y"])
    assert sha256_lines([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_stores_stand_in_dvcs_root_else_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert project_root() == tmp_path.resolve() / "repository"
    monkeypatch.delenv("DVC_ROOT")
    assert project_root() == tmp_path.resolve()


def test_a_run_record_stands_beside_the_outputs(tmp_path: Path) -> None:
    with run_record(tmp_path, "train") as extra:
        extra["device"] = "cpu"
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["stage"] == "train"
    assert record["engine"] == "cli"
    assert record["device"] == "cpu"
    assert record["seconds"] >= 0
