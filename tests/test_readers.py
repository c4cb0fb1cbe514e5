"""Damaged and foreign bytes at every reader of a file: as before, or one line that names it; never a traceback."""

from __future__ import annotations

import ast
import random
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.contracts.tuned import Tuned
from segops.contracts.validation import ValidationReport
from segops.errors import UserError
from segops.files import parse_json, readable
from tests.support.damage import WAYS, damaged
from tests.support.factories import tiny_prepared
from tests.support.judged_candidates import write_candidate
from tests.support.readers import Reader, readers

READERS = readers("small")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """What the stages write, without running the slow ones."""
    folder = tmp_path_factory.mktemp("project")
    tiny_prepared(folder / "data")
    write_candidate(folder, "small")
    shutil.copy(root / "params.yaml", folder)
    (folder / "models/tuned").mkdir(parents=True)
    Tuned(candidates={"small": None}).save(folder / "models/tuned")
    (folder / "reports/validation").mkdir(parents=True)
    report = ValidationReport.model_construct(manifest_sha256="0" * 64, images=1, success=True, expectations=[])
    report.save(folder / "reports/validation")
    return folder


@pytest.mark.parametrize("name", [name for name in READERS if name != "validation"])
def test_the_undamaged_file_is_read(name: str, project: Path) -> None:
    READERS[name].read(project)


@pytest.mark.parametrize("name", READERS)
@given(way=st.sampled_from(sorted(WAYS)), seed=st.integers(0, 2**32))
def test_damage_is_said_in_a_line_that_names_the_file(name: str, way: str, seed: int, project: Path) -> None:
    reader = READERS[name]
    path = project / reader.file
    content = path.read_bytes()
    try:
        path.write_bytes(damaged(content, way, random.Random(seed)))
        check(reader, project)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_or_nothing_in_place_of_the_file_is_said(name: str, project: Path) -> None:
    reader = READERS[name]
    path = project / reader.file
    content = path.read_bytes()
    path.unlink()
    try:
        check(reader, project)
        path.mkdir()
        check(reader, project)
        path.rmdir()
    finally:
        path.write_bytes(content)


def check(reader: Reader, project: Path) -> None:
    """The file is refused in a line, or read; what a hash seals is never read as something else."""
    path = Path(reader.file)
    try:
        reader.read(project)
        said = path.name
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert path.name in said or path.parent.name in said


@given(st.binary(max_size=200) | st.sampled_from([b"[" * 99_999, b'{"a":' * 99_999, b"\xff\xfe", b"NaN", b"1e999"]))
def test_json_from_anywhere_is_parsed_or_a_value_error(content: bytes) -> None:
    with suppress(ValueError):
        parse_json(content)


def test_a_disk_that_fails_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), readable(tmp_path, "file", "mend it"):
        raise PermissionError(13, "denied", str(tmp_path))


# Where the product reads bytes, and what throws bad ones at it. A new reader belongs to one of these, or to `READERS`.
STAGE_FILES = (
    "contracts params/project.py data/flat_files.py data/shards.py inference/trained.py pictures/thumbnails.py"
)
IMAGES = "data/decoders data/images.py data/image_rows.py data/volumes"  # tests/data/test_decoders.py
SOURCES = "data/sources data/layouts data/annotations planning commands/init.py"  # tests/data, benchmarks/chaos
GIVEN = "params/compact.py commands/audit.py commands/status.py training/backbone.py export"  # by a person, each tested
SERVERS = "tracking"  # what MLflow answers, or files that its readers above have read
OWN = "training tuning reports commands/batch.py kubeflow.py locks.py comparison/entrants.py cli/common.py"
KNOWN = " ".join((STAGE_FILES, IMAGES, SOURCES, GIVEN, SERVERS, OWN)).split()
READING = {"safe_load", "read_csv", "read_parquet", "model_validate_json", "safe_open", "memmap", "fromfile", "ZipFile"}
READING |= {"DictReader", "fromstring", "TiffFile", "loads", "dcmread", "pq.read_table"}  # `read_table` is our own


@cache
def reading(root: Path) -> frozenset[tuple[str, str]]:
    """Files of the package that parse something, with the call."""
    found = set()
    for path in sorted((root / "src/segops").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                if name in READING or ast.unparse(node.func) in READING:
                    found.add((path.relative_to(root / "src/segops").as_posix(), ast.unparse(node.func)))
    return frozenset(found)


def test_every_place_that_parses_is_one_that_bad_bytes_are_thrown_at(root: Path) -> None:
    unknown = {
        file for file, _ in reading(root) if not any(file == known or file.startswith(f"{known}/") for known in KNOWN)
    }
    assert unknown == {"files.py"}, "throw damaged bytes at it in a test, then name it above"


def test_json_is_parsed_in_one_place_where_it_comes_from_outside(root: Path) -> None:
    """json.loads raises RecursionError over nested lists, which no caller thinks of."""
    own = {"files.py", "tracking/compared.py", "tracking/model.py", "tuning/space.py"}  # tags and files of our own
    own |= {"training/batches/enhanced.py", "training/batches/seen.py", "planning/volume_rules.py"}
    assert {file for file, call in reading(root) if call == "json.loads"} <= own
