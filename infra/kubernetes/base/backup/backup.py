"""A backup of MLflow's databases and buckets in a folder, and the way back.

    backup.py copy DUMPS FOLDER            # after dump.sh: what the buckets hold beside it, as one more backup
    backup.py restore DUMPS FOLDER [NAME]  # before restore.sh: a backup's buckets, the newest's without NAME

Databases are dumped first and artifacts copied after them. Artifacts are written once and not changed, so whatever the
dump names is still there; what came later is only more. The other way round a run could name an artifact that isn't in
the backup. FOLDER holds `objects/`, each content once under its SHA-256, and a folder a backup, whose name ends with
the hash of its list, backup.json. Reads $BUCKETS, $KEEP, the PG.. of libpq and the AWS_.. of boto3.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

LIST, OBJECTS, NAME = "backup.json", "objects", re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{12}")
PART = 8 << 20


def copy(dumps: Path, folder: Path) -> None:
    """Put dumps and buckets into the folder as its newest backup, then remove what is older than the last $KEEP."""
    databases = {path.stem: [sha256_of(path), path.stat().st_size] for path in sorted(dumps.glob("*.dump"))}
    if not databases:
        sys.exit(f"backup: {dumps} holds no dump: dump.sh comes first")
    earlier = [content for content in (read(folder, name) for name in backups(folder)) if content]
    known = earlier[-1]["buckets"] if earlier else {}
    client = s3()
    buckets = {name: dict(fetched(client, name, folder, known.get(name, {}))) for name in os.environ["BUCKETS"].split()}
    content = {"schema_version": 1, "databases": databases, "buckets": buckets}
    text = json.dumps(content, indent=1, sort_keys=True).encode()
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{hashlib.sha256(text).hexdigest()[:12]}"
    partial = folder / f".{name}"
    partial.mkdir(mode=0o700)
    for path in dumps.glob("*.dump"):
        shutil.copyfile(path, partial / path.name)
    (partial / LIST).write_bytes(text)
    for path in partial.iterdir():
        synced(path)
    partial.rename(folder / name)
    counts = [sum(len(bucket) for bucket in one.values()) for one in (known, buckets)]
    print(f"{name}: {len(databases)} databases, {counts[1]} objects")  # noqa: T201
    if counts[1] * 2 < counts[0]:
        sys.exit(f"backup: {counts[0]} objects before, {counts[1]} now; taken, and no earlier backup was removed")
    remove(folder, backups(folder)[: -int(os.environ.get("KEEP", "14"))])


def fetched(client: Any, bucket: str, folder: Path, known: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Each object's key with its SHA-256, size and ETag; what isn't in `objects/` yet is fetched."""
    for key, size, etag in listed(client, bucket):
        before = known.get(key)
        if before and before[1:] == [size, etag]:
            path = object_path(folder, before[0])
            if path.is_file() and path.stat().st_size == size:
                yield key, before
                continue
        partial = folder / OBJECTS / f".{os.getpid()}"
        partial.parent.mkdir(exist_ok=True)
        try:
            body = client.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"]
            digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
            with partial.open("wb") as file:
                for part in body.iter_chunks(PART):
                    file.write(part)
                    digest.update(part)
                    md5.update(part)
        except ClientError as error:
            sys.exit(f"backup: s3://{bucket}/{key} went or changed while it was copied ({error}): run it again")
        plain = etag.strip('"')
        if partial.stat().st_size != size or (re.fullmatch("[0-9a-f]{32}", plain) and md5.hexdigest() != plain):
            sys.exit(f"backup: s3://{bucket}/{key} came with other bytes than its ETag says: run it again")
        synced(partial)
        path = object_path(folder, digest.hexdigest())
        path.parent.mkdir(exist_ok=True)
        partial.rename(path)
        yield key, [digest.hexdigest(), size, etag]


def remove(folder: Path, names: list[str]) -> None:
    """Remove these backups, what an interrupted one left, and the objects that no backup lists any more."""
    for path in [*(folder / name for name in names), *folder.glob(".*Z-*")]:
        shutil.rmtree(path)
    lists = [read(folder, name) for name in backups(folder)]
    if None in lists:
        sys.exit(f"backup: taken; but a backup in {folder} has a torn list: remove it, until then no object is")
    wanted = {
        entry[0] for content in lists if content for bucket in content["buckets"].values() for entry in bucket.values()
    }
    for path in (folder / OBJECTS).rglob("*"):
        if path.is_file() and path.name not in wanted:
            path.unlink()


def restore(dumps: Path, folder: Path, name: str | None) -> None:
    """Check the backup, then that nothing would be overwritten, then fill the buckets and lay out the dumps."""
    name, content = chosen(folder, name)
    client = s3()
    present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    in_buckets = (filled(client, bucket, content["buckets"][bucket]) for bucket in content["buckets"].keys() & present)
    if occupied := [*filled_databases(content["databases"]), *(line for lines in in_buckets for line in lines)]:
        sys.exit(f"restore: needs an empty place, nothing was touched: {'; '.join(occupied)}")
    for bucket, entries in content["buckets"].items():
        if bucket not in present:
            client.create_bucket(Bucket=bucket)
        there = {key for key, _, _ in listed(client, bucket)}
        for key in entries.keys() - there:
            client.upload_file(str(object_path(folder, entries[key][0])), bucket, key)
        print(f"{bucket}: {len(entries)} objects")  # noqa: T201
    dumps.mkdir(mode=0o700, parents=True, exist_ok=True)
    for database in content["databases"]:
        shutil.copyfile(folder / name / f"{database}.dump", dumps / f"{database}.dump")


def chosen(folder: Path, name: str | None) -> tuple[str, dict[str, Any]]:
    """The backup of this name, or the newest one, with its list; all that it lists has been read and is whole."""
    taken = backups(folder)
    name = name or (taken[-1] if taken else None)
    if name not in taken:
        sys.exit(f"restore: {folder} has no backup {name or ''}; there are: {', '.join(taken) or 'none'}")
    content = read(folder, name)
    broken = (
        [f"{folder / name / LIST} isn't what was written"] if content is None else list(torn(folder, name, content))
    )
    if content is None or broken:
        sys.exit(f"restore: {name} is torn, nothing was touched: {'; '.join(broken[:3])} (faults: {len(broken)})")
    return name, content


def torn(folder: Path, name: str, content: dict[str, Any]) -> Iterator[str]:
    """What of a backup isn't there, or has other bytes than it was written with."""
    for database, (digest, _) in content["databases"].items():
        yield from differs(folder / name / f"{database}.dump", digest)
    for digest in sorted({entry[0] for bucket in content["buckets"].values() for entry in bucket.values()}):
        yield from differs(object_path(folder, digest), digest)


def differs(path: Path, digest: str) -> Iterator[str]:
    """A line where a file isn't there or isn't what its hash says."""
    if not path.is_file():
        yield f"{path} is missing"
    elif sha256_of(path) != digest:
        yield f"{path} has other bytes"


def filled_databases(names: dict[str, Any]) -> Iterator[str]:
    """The databases that hold a table."""
    with psycopg.connect() as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for name in sorted(names.keys() & there):
        with psycopg.connect(dbname=name) as connection:
            query = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
            (count,) = connection.execute(query).fetchone() or (0,)
        if count:
            yield f"database {name} holds {count} tables"


def filled(client: Any, bucket: str, entries: dict[str, Any]) -> Iterator[str]:
    """A line where a bucket holds anything else than an interrupted restore of this backup would leave."""
    for key, size, _ in listed(client, bucket):
        digest, expected = entries[key][:2] if key in entries else (None, None)
        if (
            size != expected
            or hashlib.sha256(client.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest() != digest
        ):
            yield f"bucket {bucket} holds {key}"
            return


def backups(folder: Path) -> list[str]:
    """The names of a folder's backups, the oldest first."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name))


def read(folder: Path, name: str) -> dict[str, Any] | None:
    """A backup's list, whose hash ends the backup's name; None where it is another one or missing."""
    path = folder / name / LIST
    text = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(text).hexdigest()[:12] != name.rpartition("-")[2]:
        return None
    content: dict[str, Any] = json.loads(text)
    return content


def s3() -> Any:
    """The client of the server that AWS_ENDPOINT_URL names."""
    return boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}))


def listed(client: Any, bucket: str) -> Iterator[tuple[str, int, str]]:
    """Each object's key, size and ETag."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            yield entry["Key"], entry["Size"], entry["ETag"]


def object_path(folder: Path, digest: str) -> Path:
    """Where a content is kept."""
    return folder / OBJECTS / digest[:2] / digest


def sha256_of(path: Path) -> str:
    """A file's hash."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def synced(path: Path) -> None:
    """Have a file on the disk before its name says that it is whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def main() -> None:
    """See the module's docstring; one process at a time has the folder."""
    task, dumps, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{task}: another backup or restore has {folder}: wait for its end")
        try:
            copy(dumps, folder) if task == "copy" else restore(dumps, folder, [*sys.argv[4:], None][0])
        except (BotoCoreError, ClientError, psycopg.Error, OSError) as error:
            sys.exit(f"{task}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
