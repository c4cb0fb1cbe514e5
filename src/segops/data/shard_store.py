"""Keeps a dataset's shards in a bucket, for data that no disk holds: by content, read example by example.

SEGOPS_SHARD_STORE (`s3://bucket/prefix`) says where `ingest` puts them; without it they are files of the dataset. The
dataset's folder then holds the manifest and the shards' hashes, which is all that DVC or a pod moves. A shard that is
there already isn't put again. Where shards are changes nothing that is computed from them, so it is no param.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segops.contracts.dataset import Dataset, Shard
from segops.contracts.pixels import StoredFile, StoredObject
from segops.contracts.stored_shards import STRETCHES_COLUMNS, STRETCHES_FILE, StoredShards, shard_key
from segops.contracts.tables import read_table, write_table
from segops.data.sources.download import patiently
from segops.data.sources.s3_errors import explained
from segops.data.stored_bytes import ArrayHash, StoredBytes, bucket_of, bucket_place, store_client
from segops.errors import UserError
from segops.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    import pandas as pd

PLACE = "SEGOPS_SHARD_STORE"
_FIX = "run `segops ingest` again"


class Stretch(NamedTuple):
    """The bytes of a shard that are an example's: headers and contents of its members."""

    shard: str
    image_id: str
    offset: int
    size_bytes: int
    sha256: str


def place() -> str | None:
    """Return where shards are to be kept; None: in files. Raises UserError for anything but a bucket."""
    return bucket_place(PLACE)


def owner(member: tarfile.TarInfo) -> str:
    """Return the image id of a shard's member."""
    return member.name.partition(".")[0]


def put_shard(uri: str, folder: Path, shard: Shard) -> list[Stretch]:
    """Move a shard from a dataset's folder to a bucket; return its examples' stretches."""
    path, (bucket, prefix) = folder / shard.file, bucket_of(uri)
    stretches = list(_stretches(path, shard.file))
    key = shard_key(prefix, shard)
    client, where = store_client(), f"s3://{bucket}/{key}"

    def put() -> None:
        with explained(where):
            listed = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
            if [(entry["Key"], entry["Size"]) for entry in listed] != [(key, shard.size_bytes)]:
                client.upload_file(str(path), bucket, key)

    patiently(put, where)
    path.unlink()
    return stretches


def _stretches(path: Path, shard: str) -> Iterator[Stretch]:
    """Find each example's bytes in a shard."""
    with tarfile.open(path, mode="r:") as tar, path.open("rb") as file:
        for image_id, members in groupby(tar, key=owner):
            infos = list(members)
            begin = infos[0].offset
            end = infos[-1].offset_data + infos[-1].size + -infos[-1].size % tarfile.BLOCKSIZE
            file.seek(begin)
            yield Stretch(shard, image_id, begin, end - begin, sha256_bytes(file.read(end - begin)))


def save_stretches(folder: Path, uri: str, stretches: Iterable[Stretch]) -> None:
    """Write shards.json and stretches.parquet."""
    import pandas as pd

    table = pd.DataFrame(stretches, columns=list(STRETCHES_COLUMNS))
    write_table(table, folder / STRETCHES_FILE, STRETCHES_COLUMNS)
    bucket, prefix = bucket_of(uri)
    StoredShards(bucket=bucket, prefix=prefix, stretches_sha256=sha256_file(folder / STRETCHES_FILE)).save(folder)


def is_stored(dataset: Path) -> bool:
    """Return whether a dataset's shards are in a bucket."""
    return (dataset / StoredShards.FILE).is_file()


def is_stored_at(dataset: Path, uri: str | None) -> bool:
    """Return whether a dataset's shards are in that bucket, below that prefix."""
    if uri is None or not is_stored(dataset):
        return False
    about = StoredShards.load(dataset)
    return (about.bucket, about.prefix) == bucket_of(uri)


def stretches_of(dataset: Path, shards: Iterable[Shard]) -> list[Stretch]:
    """Return the stretches of some shards of a dataset that is stored."""
    table = _table(dataset)
    rows = table[table["shard"].isin([shard.file for shard in shards])]
    return [Stretch(*row) for row in rows.itertuples(index=False)]


def fetch_shard(dataset: Path, shard: Shard, target: Path) -> None:
    """Fetch a whole shard of a dataset that is stored into a file."""
    about = StoredShards.load(dataset)
    client, where = store_client(), f"s3://{about.bucket}/{about.key(shard)}"

    def get() -> None:
        with explained(where):
            client.download_file(about.bucket, about.key(shard), str(target))

    patiently(get, where)


def read_stretches(dataset: Path, shard: str, image_ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of some examples of a shard, in its order; those that it lacks are left out."""
    stored = _opened(dataset.resolve(), StoredShards.load(dataset).model_dump_json())
    begin, wanted = stored.begins[shard], set(image_ids)
    rows = [stretch for stretch in stored.stretches.get(shard, []) if stretch.image_id in wanted]
    spans = [(begin + row.offset, begin + row.offset + row.size_bytes) for row in rows]
    yield from zip((row.image_id for row in rows), stored.content.in_turn(spans), strict=True)


class _Stored(NamedTuple):
    """A dataset's shards as one long file: what holds it, where each shard begins, and their stretches."""

    content: StoredBytes
    begins: dict[str, int]
    stretches: dict[str, list[Stretch]]


@lru_cache(maxsize=2)
def _opened(dataset: Path, _: str) -> _Stored:
    """Open the shards of a dataset, once in a process while they are the same."""
    about, shards = StoredShards.load(dataset), Dataset.load(dataset).shards
    file = StoredFile(objects=[StoredObject(key=about.key(shard), size_bytes=shard.size_bytes) for shard in shards])
    sizes = [shard.size_bytes for shard in shards]
    begins = dict(zip((shard.file for shard in shards), accumulate(sizes, initial=0), strict=False))
    stretches: dict[str, list[Stretch]] = {}
    for row in _table(dataset).itertuples(index=False):
        stretches.setdefault(str(row.shard), []).append(Stretch(*row))
    arrays = {
        begins[file] + stretch.offset: ArrayHash(b"", stretch.sha256)
        for file, of_shard in stretches.items()
        for stretch in of_shard
    }
    content = StoredBytes(about.bucket, file, arrays, cache="shards", fix=_FIX)
    return _Stored(content, begins, stretches)


def _table(dataset: Path) -> pd.DataFrame:
    """Read stretches.parquet. Raises UserError where it isn't what shards.json names."""
    path = dataset / STRETCHES_FILE
    table = read_table(path, STRETCHES_COLUMNS)
    if sha256_file(path) != StoredShards.load(dataset).stretches_sha256:
        raise UserError(f"{path}: not what {StoredShards.FILE} names; {_FIX}")
    return table
