"""What the system refuses: a line that says what was done to which file, on which disk, and what to do."""

from __future__ import annotations

import ast
import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segops.errors import (
    TRY_AGAIN,
    DiskFullError,
    OneLineError,
    TryAgainError,
    UserError,
    disk_full,
    one_line_errors,
    require_space,
    reworded,
    shown_bytes,
)


def _line(block: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[str, object]:
    """What a block says when it ends a command, and the exit code."""
    with pytest.raises(SystemExit) as ended, one_line_errors():
        block()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said.removeprefix("segops: ").strip(), ended.value.code


def _folder_and_file(root: Path) -> tuple[Path, Path]:
    (root / "folder").mkdir()
    (root / "folder" / "inside").touch()
    (root / "file").touch()
    return root / "folder", root / "file"


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (lambda folder, file: folder.read_bytes(), r"can't read .*/folder: is a directory; name a file"),
        (lambda folder, file: folder.write_text(""), r"can't write .*/folder: is a directory; name a file"),
        (lambda folder, file: (file / "x").read_text(), r"can't read .*/file/x: not a directory; move the file"),
        (lambda folder, file: (file / "x").mkdir(), r"can't make .*/file/x: not a directory"),
        (lambda folder, file: folder.mkdir(), r"can't make .*/folder: file exists; move what is there away"),
        (lambda folder, file: folder.rmdir(), r"can't remove .*/folder: directory not empty"),
        (lambda folder, file: folder.unlink(), r"can't remove .*/folder: is a directory"),
        (lambda folder, file: file.replace(folder), r"can't rename .*/folder: is a directory"),
        (lambda folder, file: list(file.iterdir()), r"can't list .*/file: not a directory"),
        (lambda folder, file: (folder / "none").read_text(), r"can't read .*/none: no such file or directory; correct"),
        (lambda folder, file: (folder / ("n" * 300)).write_text(""), r"can't write .*n: file name too long; shorten"),
    ],
)
def test_a_refused_deed_is_named_with_its_path_and_a_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], deed: Callable[[Path, Path], object], said: str
) -> None:
    folder, file = _folder_and_file(tmp_path)
    line, code = _line(lambda: deed(folder, file), capsys)
    assert re.match(said, line)
    assert code == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((number, 1) for number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)),
        *((number, TRY_AGAIN) for number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.EBUSY)),
    ],
)
def test_no_error_of_a_file_is_a_traceback_and_a_drives_may_pass(
    capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "a/b")

    line, ended = _line(fail, capsys)
    assert line.startswith(f"can't use a/b: {os.strerror(number).lower()}; ")
    assert ended == code


def test_an_error_without_a_file_is_a_bug() -> None:
    with pytest.raises(OSError, match="what"), one_line_errors():
        raise OSError("what")


def test_names_that_are_no_text_and_links_without_end_are_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    text, _ = _line(lambda: "caf\udce9/x".encode(), capsys)
    assert text == "caf\\udce9/x: a name that isn't UTF-8 text; rename it"
    text, _ = _line(lambda: (tmp_path / "loop").resolve(strict=True), capsys)
    assert str(tmp_path / "loop") in text
    assert "mend the links" in text


@pytest.mark.parametrize("error", [RuntimeError("a bug"), UnicodeEncodeError("latin-1", "\u20ac", 0, 1, "a bug")])
def test_other_errors_of_their_kinds_are_bugs(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"), one_line_errors():
        raise error


def test_memory_and_depth_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def large() -> None:
        raise MemoryError("Unable to allocate 3.64 TiB")

    def deep() -> None:
        deep()

    assert "memory is used up (Unable to allocate 3.64 TiB)" in _line(large, capsys)[0]
    assert "nests deeper than can be read" in _line(deep, capsys)[0]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),  # PyArrow
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),  # PyTorch
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        ValueError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        ValueError("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_every_librarys_full_disk_names_file_disk_and_what_is_left(tmp_path: Path, error: Exception) -> None:
    full = disk_full(error, tmp_path / "not" / "there")
    assert isinstance(full, DiskFullError)
    assert full.exit_code == TRY_AGAIN
    words = rf"can't write {tmp_path}/not/there: no space left on its disk \(/.*, [\d.]+ \w+ left of [\d.]+ \w+\); free"
    assert re.match(words, str(full))


def test_other_errors_say_nothing_of_a_disk(tmp_path: Path) -> None:
    assert disk_full(ValueError("step 28"), tmp_path) is None
    assert disk_full(OSError(errno.EACCES, "No space left"), tmp_path) is None
    assert disk_full(UserError("No space left"), tmp_path) is None


_WRITERS = """
import sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from PIL import Image
from safetensors.torch import save_file
from segops.errors import DiskFullError
from segops.files import atomic_path, output_folder
import resource
noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
table = pd.DataFrame({"a": np.random.default_rng(0).random(4000)})
writers = {
    "text": lambda path: path.write_text("x" * 20000),
    "bytes.npy": lambda path: np.save(path.open("wb"), np.zeros(4000)),
    "table.csv": lambda path: table.to_csv(path),
    "table.parquet": lambda path: table.to_parquet(path),
    "image.png": lambda path: Image.fromarray(noise).save(path, format="png"),
    "weights.safetensors": lambda path: save_file({"w": torch.zeros(4000)}, path),
    "program.pt": lambda path: torch.save(torch.zeros(4000), path),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
root = Path(sys.argv[1])
for name, write in writers.items():
    for kind in (atomic_path, output_folder):
        target = root / name
        try:
            with kind(target) as partial:
                write(partial if kind is atomic_path else partial / name)
        except DiskFullError as error:
            assert str(error).startswith(f"can't write {root}"), error
            assert name in str(error), error
        else:
            sys.exit(f"{name} {kind.__name__}: no error")
assert not list(root.iterdir()), list(root.iterdir())
"""


def test_every_writer_names_its_file_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _WRITERS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_what_is_too_large_for_a_disk_is_refused_before_it_is_written(tmp_path: Path) -> None:
    require_space(tmp_path / "a" / "b", 1)
    with pytest.raises(DiskFullError, match=r"a/b: it needs 1024.0 TiB \(/.*, .* left of .*\); free space"):
        require_space(tmp_path / "a" / "b", 2**50)


def test_bytes_have_binary_units() -> None:
    assert [shown_bytes(size) for size in (5, 1536, 3 * 2**20, 2**40)] == ["5 bytes", "1.5 KiB", "3.0 MiB", "1.0 TiB"]


_ENDED = {
    "while an object is destroyed": """
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
with one_line_errors():
    Last()
    time.sleep(20)
    print("went on")
""",
    "in a library that logs what it can't finish": """
with one_line_errors():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    except BaseException:
        logging.getLogger("library").error("cut", exc_info=True)
        raise
""",
}


@pytest.mark.parametrize("code", _ENDED.values(), ids=_ENDED)
def test_sigterm_ends_a_process_without_a_traceback_wherever_it_comes(code: str) -> None:
    head = "import logging, os, signal, time\nfrom segops.errors import one_line_errors\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


@pytest.mark.parametrize("kind", [UserError, TryAgainError, DiskFullError])
def test_other_words_leave_an_error_of_its_kind(kind: type[OneLineError]) -> None:
    error = kind("b")
    error.details = ("c",)
    with pytest.raises(OneLineError) as caught, reworded("a: {}".format):
        raise error
    assert (type(caught.value), str(caught.value), caught.value.details) == (kind, "a: b", ("c",))


WORDED_WHOLE = {"data/volumes/dicom.py": 2}  # blocks that call pydicom alone


def test_a_fault_of_the_machine_is_never_worded_as_a_users(root: Path) -> None:
    """No handler turns all one-line errors, or all errors, into a UserError: a full disk is no damaged file."""
    found: dict[str, int] = {}
    for path in sorted((root / "src/segops").rglob("*.py")):
        for tried in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            passed = False
            for handler in tried.handlers if isinstance(tried, ast.Try) else ():
                caught = set(re.findall(r"\w+", ast.unparse(handler.type))) if handler.type else {"Exception"}
                if caught & {"Exception", "BaseException", "OneLineError", "TryAgainError", "DiskFullError"}:
                    name = path.relative_to(root / "src/segops").as_posix()
                    found[name] = found.get(name, 0) + (not passed and "raise UserError" in ast.unparse(handler))
                passed |= "OneLineError" in caught and ast.unparse(handler.body[-1]) == "raise"
    assert {name: count for name, count in found.items() if count} == WORDED_WHOLE
