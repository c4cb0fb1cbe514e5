import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segops.data.sources import archives
from segops.data.sources.source import find, open_source
from segops.errors import DiskFullError, UserError
from tests.data.test_source_conformance import as_folder
from tests.support.factories import tar_folder, zip_folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_the_hash_of_an_archive_is_its_file_s_and_of_a_folder_its_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "b.png").write_bytes(b"2")
    (folder / "a.png").write_bytes(b"1")
    lines = "".join(f"{name} {hashlib.sha256(text).hexdigest()}\n" for name, text in (("a.png", b"1"), ("b.png", b"2")))
    with open_source(str(folder), scratch=tmp_path) as source:
        assert source.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    path = zip_folder(folder, tmp_path / "raw.zip")
    with open_source(str(path), scratch=tmp_path) as source:
        assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_links_to_files_in_a_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"pixels")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").symlink_to(tmp_path / "cache")
    with open_source(str(tmp_path / "raw"), scratch=tmp_path) as source:
        assert source.read("a.png") == b"pixels"


def test_a_broken_link_or_a_loop_in_a_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name, target in (("gone.png", tmp_path / "nowhere"), ("loop", tmp_path)):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(UserError, match=name), open_source(str(tmp_path), scratch=tmp_path):
            pass
        (tmp_path / name).unlink()


def test_a_relative_path_is_looked_up_in_the_working_folder_and_then_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    temporary.mkdir(parents=True)
    (tmp_path / "raw.zip").write_bytes(b"")
    monkeypatch.chdir(temporary)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert find("raw.zip", "ingest.source").resolve() == tmp_path / "raw.zip"
    (temporary / "raw.zip").write_bytes(b"")
    assert find("raw.zip", "ingest.source").resolve() == temporary / "raw.zip"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("no/such.zip", "no/such.zip: no such file or folder"),
        ("syntetic://nuclei?n=3", "did you mean 'synthetic://'"),
        ("ftp://host/raw.zip", "unknown kind of source 'ftp://'; "),
        ("raw.rar", "raw.rar: unknown kind of file"),
    ],
)
def test_an_unknown_source_is_an_error(uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError) as error, open_source(uri, scratch=tmp_path):
        pass
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def zip_of(path: Path, name: str, *, mode: int = stat.S_IFREG | 0o644, twice: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2 if twice else 1):
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name, mode << 16
            archive.writestr(info, b"content")
    return path


def tar_of(path: Path, name: str, *, kind: bytes = tarfile.REGTYPE, twice: bool = False) -> Path:
    with tarfile.open(path, "w") as archive:
        for _ in range(2 if twice else 1):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, 7 if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            archive.addfile(info, io.BytesIO(b"content"))
    return path


UNSAFE_NAMES = ["../evil.png", "images/../../evil.png", "/etc/evil.png", "C:/evil.png", "images\\evil.png", "a\nb.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_member_that_leaves_the_archive_is_refused_and_nothing_is_written(
    name: str, pack: Callable[..., Path], tmp_path: Path
) -> None:
    suffix = "zip" if pack is zip_of else "tar"
    path = pack(tmp_path / f"raw.{suffix}", name)
    (tmp_path / "work" / "scratch").mkdir(parents=True)
    with (
        pytest.raises(UserError, match=rf"raw.{suffix}: member .*evil|raw.{suffix}: member 'a"),
        open_source(str(path), scratch=tmp_path / "work" / "scratch"),
    ):
        pass
    assert sorted(file.name for file in tmp_path.rglob("*")) == [f"raw.{suffix}", "scratch", "work"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_a_name_that_stands_twice_in_an_archive_is_refused(pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack(tmp_path / f"raw.{'zip' if pack is zip_of else 'tar'}", "a.png", twice=True)
    with pytest.raises(UserError, match=r"member a.png stands there twice"), open_source(str(path), scratch=tmp_path):
        pass


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tar_of(tmp_path / "raw.tar", "a.png", kind=kind)
    with pytest.raises(UserError, match=r"a.png is a link or a device"), open_source(str(path), scratch=tmp_path):
        pass


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "raw.zip", "a.png", mode=stat.S_IFLNK | 0o777)
    with pytest.raises(UserError, match=r"a.png is a link or a device"), open_source(str(path), scratch=tmp_path):
        pass


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of(tmp_path / "raw.zip", "a.png").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "raw.zip").write_bytes(content)
    with pytest.raises(UserError, match="encrypted"), open_source(str(tmp_path / "raw.zip"), scratch=tmp_path):
        pass


@pytest.mark.parametrize(
    ("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (99, "AES"), (77, "an unknown method")]
)
def test_a_zip_by_a_method_that_is_not_read_is_called_by_its_name(method: int, name: str, tmp_path: Path) -> None:
    content = bytearray(zip_of(tmp_path / "raw.zip", "a.png").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.index(signature) + offset
        content[place : place + 2] = method.to_bytes(2, "little")
    (tmp_path / "raw.zip").write_bytes(content)
    message = rf"^raw.zip: packed with {name}.* \(zip method {method}\), which isn't read; unpack it"
    with pytest.raises(UserError, match=message), open_source(str(tmp_path / "raw.zip"), scratch=tmp_path):
        pass


def overflowing_tar() -> bytes:
    """A pax header whose record claims a length of 20 digits."""
    header, record = tarfile.TarInfo("x"), b"99999999999999999999 size=1\n"
    header.type, header.size = tarfile.XHDTYPE, len(record)
    return header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + bytes(1024)


def nested_tar() -> bytes:
    """Three thousand headers, each of which names the next one."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    return (header.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 3000 + bytes(1024)


@pytest.mark.parametrize("hostile", [overflowing_tar, nested_tar])
def test_a_hostile_tar_is_a_line(hostile: Callable[[], bytes], tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "raw.tar").write_bytes(hostile())
    with (
        pytest.raises(UserError, match=r"^raw.tar: damaged or truncated tar"),
        open_source(str(tmp_path / "raw.tar"), scratch=scratch),
    ):
        pass


def packed(kind: str, folder: Path) -> Path:
    """CONTENT in an archive."""
    return (zip_folder if kind == "zip" else tar_folder)(as_folder(folder), folder / f"raw.{kind}")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.6])
def test_a_truncated_archive_is_one_line_that_names_it(kind: str, left: float, tmp_path: Path, scratch: Path) -> None:
    path = packed(kind, tmp_path)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with (
        pytest.raises(UserError, match=rf"{path.name}: damaged or truncated") as error,
        open_source(str(path), scratch=scratch),
    ):
        pass
    assert "\n" not in str(error.value)
    assert list(scratch.iterdir()) == []


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "raw.zip", "a.png")
    path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT", 1))
    with open_source(str(path), scratch=tmp_path) as source, pytest.raises(UserError, match=r"raw.zip: member a.png"):
        source.read("a.png")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(kind: str, tmp_path: Path, scratch: Path) -> None:
    path = packed(kind, tmp_path)
    with (
        pytest.raises(UserError, match=r"ingest.max_archive_gib"),
        open_source(str(path), scratch=scratch, max_gib=1e-6),
    ):
        pass
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_packs_too_well_is_refused(
    kind: str, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 2**20)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "zeros.png").write_bytes(bytes(4 * 2**20))
    pack = zip_folder if kind == "zip" else tar_folder
    path = pack(tmp_path / "raw", tmp_path / f"raw.{kind}")
    with pytest.raises(UserError, match=r"over 200 times its size"), open_source(str(path), scratch=scratch):
        pass


def test_a_pipe_in_a_folder_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with (
        pytest.raises(UserError, match=r"a.png: a broken link or a device"),
        open_source(str(tmp_path), scratch=tmp_path),
    ):
        pass


def test_a_disk_that_fills_while_an_archive_is_unpacked_is_named_by_the_file_that_grows(tmp_path: Path) -> None:
    packed = tmp_path / "raw.tar.gz"
    packed.write_bytes(gzip.compress(bytes(1000)))
    with pytest.raises(DiskFullError, match=r"^can't write /dev/full: no space left on its disk"):
        archives.gunzip(packed, Path("/dev/full"), max_bytes=2000)
