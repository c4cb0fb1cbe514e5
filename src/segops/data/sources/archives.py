"""Reads archives in place: nothing is ever written under a name that an archive chose."""

from __future__ import annotations

import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

from segops.data.sources.names import fault_of_name
from segops.errors import OneLineError, UserError
from segops.files import GIB, MIB, naming
from segops.progress import note

MAX_RATIO = 200  # unpacked to packed; images and masks stay far below it
RATIO_FROM_BYTES = 64 * MIB  # a small archive may pack as well as it likes
_PIECE_BYTES = MIB
_ENCRYPTED = 0x1
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    OverflowError,
    RecursionError,
)
_UNPACKED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# PKWARE's APPNOTE 6.3.10, 4.4.5.
_METHODS = {6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 98: "PPMd", 99: "AES encryption"}


class ZipArchive:
    """A zip whose members are read at random. Raises UserError when it is damaged or unsafe."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.name, self._opening = path.name, partial(ZipArchive, path, max_bytes=max_bytes)
        self.members: dict[str, zipfile.ZipInfo] = {}
        with _damage_is_users(self.name, "zip"):
            self._zip = zipfile.ZipFile(path)
        try:
            for info in self._zip.infolist():
                self._add(info)
            unpacked = sum(info.file_size for info in self.members.values())
            check_unpacked(self.name, unpacked, path.stat().st_size, max_bytes)
        except OneLineError:
            self._zip.close()
            raise

    def _add(self, info: zipfile.ZipInfo) -> None:
        """Take a member in, unless its name or kind is unsafe."""
        check_name(self.name, info.orig_filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UserError(f"{self.name}: member {info.filename} is a link or a device; pack the file itself")
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{self.name}: member {info.filename} is encrypted; unpack it and point at the folder")
        if info.compress_type not in _UNPACKED_METHODS:
            method = _METHODS.get(info.compress_type, "an unknown method")
            raise UserError(
                f"{self.name}: packed with {method} (zip method {info.compress_type}), which isn't read; unpack it and "
                "point at the folder, or pack it again with Deflate"
            )
        if not info.is_dir():
            check_new(self.name, info.filename, self.members)
            self.members[info.filename] = info

    def read(self, name: str) -> bytes:
        """Return a member's bytes, checked against its CRC."""
        with _damage_is_users(f"{self.name}: member {name}", "zip"):
            return self._zip.read(self.members[name])

    def __reduce__(self) -> tuple[Any, ...]:
        return self._opening, ()  # another process opens the file itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()


class TarArchive:
    """An uncompressed tar whose members are read at random. Raises UserError when it is damaged or unsafe.

    Args:
        path: the file.
        name: its name for messages (it may be the unpacked copy of another).
        max_bytes: largest sum of the members' sizes; None: any.
    """

    def __init__(self, path: Path, name: str, *, max_bytes: int | None) -> None:
        self.name, self._opening = name, partial(TarArchive, path, name, max_bytes=max_bytes)
        self.members: dict[str, tarfile.TarInfo] = {}
        with _damage_is_users(name, "tar"):
            self._tar = tarfile.open(path, mode="r:")  # noqa: SIM115
        try:
            with _damage_is_users(name, "tar"):
                infos = self._tar.getmembers()
            for info in infos:
                self._add(info)
            _check_complete(path, name, infos)
            if max_bytes is not None:
                unpacked = sum(info.size for info in self.members.values())
                check_unpacked(name, unpacked, path.stat().st_size, max_bytes)
        except OneLineError:
            self._tar.close()
            raise

    def _add(self, info: tarfile.TarInfo) -> None:
        """Take a member in, unless its name or kind is unsafe."""
        check_name(self.name, info.name)
        if info.isdir():
            return
        if not info.isreg() or info.issparse():
            raise UserError(f"{self.name}: member {info.name} is a link or a device; pack the file itself")
        member = info.name.removeprefix("./")
        check_new(self.name, member, self.members)
        self.members[member] = info

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        with _damage_is_users(f"{self.name}: member {name}", "tar"):
            file = self._tar.extractfile(self.members[name])
            assert file is not None, "links were refused"
            return file.read()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._opening, ()  # another process opens the file itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()


def gunzip(path: Path, target: Path, *, max_bytes: int) -> None:
    """Unpack a gzip file, stopping as soon as it grows past the limits."""
    packed, unpacked = path.stat().st_size, 0
    note(f"unpacking {path.name}")
    with naming(target), target.open("wb") as out, gzip.open(path) as file:
        while True:
            with _damage_is_users(path.name, "gzip"):
                piece = file.read(_PIECE_BYTES)
            if not piece:
                return
            unpacked += len(piece)
            check_unpacked(path.name, unpacked, packed, max_bytes)
            out.write(piece)


def check_name(archive: str, member: str) -> None:
    """Refuse names that leave the archive or mean different things on different systems."""
    if (fault := fault_of_name(member)) is not None:
        raise UserError(f"{archive}: member {member!r} {fault}; pack it again with plain relative names")


def check_new(archive: str, member: str, members: dict[str, Any]) -> None:
    """Refuse a second member of the same name: programs differ in which they take."""
    if member in members:
        raise UserError(f"{archive}: member {member} stands there twice; pack it again")


def check_unpacked(archive: str, unpacked: int, packed: int, max_bytes: int) -> None:
    """Refuse an archive that grows past the limit, or as no archive of images does."""
    if unpacked > max_bytes:
        raise UserError(
            f"{archive}: unpacks to more than {max_bytes / GIB:g} GiB; raise ingest.max_archive_gib if that is right"
        )
    if unpacked > RATIO_FROM_BYTES and unpacked > MAX_RATIO * packed:
        raise UserError(f"{archive}: unpacks to over {MAX_RATIO} times its size, as no images do; unpack it yourself")


def _check_complete(path: Path, name: str, infos: list[tarfile.TarInfo]) -> None:
    """Refuse a tar that lacks its end, or ends within a member."""
    ends = max((info.offset_data + info.size for info in infos if info.isreg()), default=0)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - tarfile.BLOCKSIZE))
        closed = file.read() == tarfile.NUL * tarfile.BLOCKSIZE
    if ends > path.stat().st_size or not closed:
        raise UserError(f"{name}: damaged or truncated tar (its end is cut off); get the file again")


@contextmanager
def _damage_is_users(what: str, kind: str) -> Iterator[None]:
    """Turn what unpacking raises on damaged bytes into a UserError that names the file."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; a seek to a nonsensical place is EINVAL, bad bzip2 and gzip data have no number
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: damaged or truncated {kind} ({reason}); get the file again") from None
