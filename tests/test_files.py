"""Atomic files: the old content or the new, never half."""

from __future__ import annotations

import json
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
