"""The journal of searches: torn by a kill or a full disk, deleted, or not a journal at all."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from segops.errors import DiskFullError, UserError
from segops.tuning.journal import open_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".segops" / "tuning" / "journal.log"


def _study(path: Path) -> optuna.Study:
    return optuna.create_study(storage=open_journal(path), study_name="s", load_if_exists=True)


def test_a_line_that_a_kill_tore_is_cut_off_before_the_next(path: Path) -> None:
    _study(path).set_user_attr("first", 1)
    with path.open("ab") as file:
        file.write(b'{"op_code":2,"work')
    _study(path).set_user_attr("second", 2)
    assert _study(path).user_attrs == {"first": 1, "second": 2}
    assert b'"work{' not in path.read_bytes()


def test_a_line_that_a_full_disk_tore_is_cut_off_and_the_file_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(path)
    whole = path.read_bytes()

    def torn(self: JournalFileBackend, logs: object) -> None:
        with path.open("ab") as file:
            file.write(b'{"op_code":2,"work')
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(JournalFileBackend, "append_logs", torn)
        with pytest.raises(DiskFullError, match=rf"can't write {path}: no space left on its disk \(/"):
            study.set_user_attr("lost", 1)
    assert path.read_bytes() == whole
    _study(path).set_user_attr("kept", 2)
    assert _study(path).user_attrs == {"kept": 2}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_journal_that_is_deleted_while_it_is_used_is_one_line(path: Path, replaced: bool) -> None:
    study = _study(path)
    path.rename(path.with_name("elsewhere"))
    if replaced:
        _study(path)
    with pytest.raises(UserError, match=rf"{path} was deleted while a search used it"):
        study.set_user_attr("a", 1)
    with pytest.raises(UserError, match="run the same command again: the search starts over"):
        study.get_trials()


@pytest.mark.parametrize(
    "content",
    [
        b"hello\nworld\n",
        bytes(range(256)) + b"\n",
        b"[1]\n[2]\n",
        b'{"op_code": 4}\n{"op_code": 99}\n',
        b"\xff\xfe\n{}\n",
        b"null\nnull\n",
    ],
)
def test_what_is_no_journal_is_one_line_with_what_to_move(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path} is no journal of searches, or a broken one .*: `mv {path} ") as said:
        open_journal(path)
    assert "\n" not in str(said.value)


def test_a_broken_line_in_the_middle_is_one_line(path: Path) -> None:
    study = _study(path)
    for number in range(5):
        study.set_user_attr("a", number)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:9], *lines[3:]]))
    with pytest.raises(UserError, match="or a broken one"):
        open_journal(path)
