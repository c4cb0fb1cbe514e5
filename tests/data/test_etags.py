"""A fetched object against its ETag: sums of parts by S3's rule, whether a server tells the parts or not."""

from __future__ import annotations

import hashlib
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segops.data.sources.etags import differs
from segops.files import MIB


def etag_of(parts: list[bytes]) -> str:
    """S3's rule for an upload in parts."""
    sums = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(sums).hexdigest()}-{len(parts)}"


def written(folder: Path, content: bytes) -> Path:
    path = folder / "object"
    path.write_bytes(content)
    return path


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=9), st.data())
def test_any_flipped_bit_is_seen_where_the_server_tells_the_parts(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], data: st.DataObject
) -> None:
    folder, whole = tmp_path_factory.mktemp("etag"), b"".join(parts)
    etag = etag_of(parts)
    assert differs(written(folder, whole), etag, lambda number: len(parts[number - 1])) is False
    place = data.draw(st.integers(0, len(whole) - 1))
    assert differs(written(folder, flipped(whole, place)), etag, lambda number: len(parts[number - 1])) is True


@pytest.mark.parametrize("part_bytes", [5 * MIB, 8 * MIB, 15 * MIB])
def test_sizes_that_programs_upload_by_are_tried_where_the_server_tells_nothing(
    part_bytes: int, tmp_path: Path
) -> None:
    whole = bytes(range(256)) * (36 * MIB // 256) + b"rest"
    cuts = range(0, len(whole), part_bytes)
    etag = etag_of([whole[begin : begin + part_bytes] for begin in cuts])
    assert differs(written(tmp_path, whole), etag, lambda _: None) is False
    assert differs(written(tmp_path, flipped(whole, 7)), etag, lambda _: None) is None  # damaged, or cut otherwise


@pytest.mark.parametrize("etag", ["", "abc", "W/x", "0" * 32 + "-x", "0" * 32 + "-0"])
def test_another_kind_of_etag_tells_nothing(etag: str, tmp_path: Path) -> None:
    assert differs(written(tmp_path, b"content"), etag, lambda _: 7) is None


def test_a_server_whose_parts_arent_the_file_tells_nothing(tmp_path: Path) -> None:
    parts = [b"a" * 10, b"b" * 5, b"c" * 20]
    etag = etag_of(parts)
    asked: list[int] = []

    def wrong(number: int) -> int:
        asked.append(number)
        return 11

    assert differs(written(tmp_path, b"".join(parts)), etag, wrong) is None
    assert sorted(asked) == [1, 1, 2, 3]
    assert list(accumulate(len(part) for part in parts)) == [10, 15, 35]


def test_a_whole_upload_is_its_md5(tmp_path: Path) -> None:
    path = written(tmp_path, b"content")
    assert differs(path, hashlib.md5(b"content").hexdigest(), lambda _: None) is False
    assert differs(path, hashlib.md5(b"contend").hexdigest(), lambda _: None) is True
