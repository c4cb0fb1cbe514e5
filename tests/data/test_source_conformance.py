"""What every kind of source must do, tried on all of them: local, remote, archive, folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from segops.data.sources.nuclei import Nuclei
from segops.data.sources.source import DOWNLOADS, open_source
from segops.errors import UserError
from tests.support.dvc_repos import DvcRepo
from tests.support.factories import tar_folder, zip_folder
from tests.support.lakefs_server import LakeFS, lakefs_server, use_lakefs
from tests.support.remote_servers import Served, http_server, put_objects, s3_server, use_aws

QUERY = Nuclei(n=5, size=32, seed=3)
CONTENT = dict(QUERY.members())
LAKEFS_COMMIT = "c0ffee" * 10 + "cafe"
JUNK = ("__MACOSX/images/._x.png", ".DS_Store", "images/Thumbs.db")


def as_folder(folder: Path, junk: tuple[str, ...] = ()) -> Path:
    """CONTENT as files below `folder/raw`, and names that no source may list."""
    root = folder / "raw"
    for name, content in {**CONTENT, **dict.fromkeys(junk, b"junk")}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@dataclass(frozen=True)
class World:
    """Where sources can be offered: a folder, an S3 server, an HTTP server, a DVC repository, lakeFS."""

    folder: Path
    s3: str
    http: str
    dvc: DvcRepo
    commit: str
    lakefs: LakeFS


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    raw = as_folder(folder, JUNK)
    archive = zip_folder(raw, folder / "raw.zip").read_bytes()
    tar_folder(raw, folder / "raw.tar")
    tar_folder(raw, folder / "raw.tar.gz")
    tar_folder(raw, folder / "raw.tgz")
    repo = DvcRepo.make(folder / "repo", folder / "store")
    as_folder(repo.folder / "data", JUNK[1:])  # git itself would ignore nothing, DVC takes what stands there
    (repo.folder / "raw.zip").write_bytes(archive)
    commit = repo.commit("v1", "data/raw", "raw.zip")
    with ExitStack() as stack:
        s3, http = stack.enter_context(s3_server()), stack.enter_context(http_server(Served(archive)))
        objects = {f"v1/raw/{path.relative_to(raw).as_posix()}": path.read_bytes() for path in files_in(raw)}
        put_objects(s3, "cells", {"sets/raw.zip": archive, **objects})
        lakefs = stack.enter_context(lakefs_server(LakeFS({"lake": {"v1": LAKEFS_COMMIT}})))
        committed = {f"{LAKEFS_COMMIT}/{name}": content for name, content in objects.items()}
        put_objects(lakefs.url, "lake", {f"{LAKEFS_COMMIT}/raw.zip": archive, **committed})
        yield World(folder, s3, http, repo, commit, lakefs)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        uri: of the same content in a world.
        archive: whether its hash is that of the world's zip.
        needs_sha256: whether it is refused without one.
        revision: what names its state for good, in a world; None: nothing does.
    """

    uri: Callable[[World], str]
    archive: bool = False
    needs_sha256: bool = False
    revision: Callable[[World], str] | None = None


KINDS = {
    "synthetic": Kind(lambda world: QUERY.uri),
    "folder": Kind(lambda world: str(world.folder / "raw")),
    "zip": Kind(lambda world: str(world.folder / "raw.zip"), archive=True),
    "tar": Kind(lambda world: str(world.folder / "raw.tar")),
    "tar.gz": Kind(lambda world: str(world.folder / "raw.tar.gz")),
    "tgz": Kind(lambda world: str(world.folder / "raw.tgz")),
    "s3 archive": Kind(lambda world: "s3://cells/sets/raw.zip", archive=True, revision=lambda world: md5_of_zip(world)),
    "s3 prefix": Kind(lambda world: "s3://cells/v1/raw/", revision=lambda world: ""),
    "http archive": Kind(
        lambda world: f"{world.http}/raw.zip", archive=True, needs_sha256=True, revision=lambda world: '"one"'
    ),
    "dvc archive": Kind(
        lambda world: f"dvc://{world.dvc.folder}@v1#raw.zip", archive=True, revision=lambda world: world.commit
    ),
    "dvc folder": Kind(lambda world: f"dvc://{world.dvc.folder}@v1#data/raw", revision=lambda world: world.commit),
    "lakefs archive": Kind(
        lambda world: "lakefs://lake/v1/raw.zip", archive=True, revision=lambda world: LAKEFS_COMMIT
    ),
    "lakefs folder": Kind(lambda world: "lakefs://lake/v1/v1/raw", revision=lambda world: LAKEFS_COMMIT),
    "dvc clone": Kind(
        lambda world: f"dvc://file://{world.dvc.folder}@main#data/raw", revision=lambda world: world.commit
    ),
}


def md5_of_zip(world: World) -> str:
    return hashlib.md5((world.folder / "raw.zip").read_bytes()).hexdigest()


def sha256_of_zip(world: World) -> str:
    return hashlib.sha256((world.folder / "raw.zip").read_bytes()).hexdigest()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own, with a scratch folder."""
    use_aws(monkeypatch, world.s3)
    use_lakefs(monkeypatch, world.lakefs.url)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "scratch").mkdir()
    return tmp_path


def wanted(kind: Kind, world: World) -> str | None:
    return sha256_of_zip(world) if kind.needs_sha256 else None


def test_members_are_sorted_without_junk_and_have_their_bytes(kind: Kind, world: World, project: Path) -> None:
    with open_source(kind.uri(world), scratch=project / "scratch", sha256=wanted(kind, world)) as source:
        assert source.names == sorted(CONTENT)
        assert {name: source.read(name) for name in source.names} == CONTENT


def test_it_names_itself_and_its_state_without_a_local_path(kind: Kind, world: World, project: Path) -> None:
    uri = kind.uri(world)
    with open_source(uri, scratch=project / "scratch", sha256=wanted(kind, world)) as source:
        assert source.uri == uri.replace("file://", "").replace(f"{world.folder}/", "")
        assert str(world.folder) not in source.uri
        assert (source.revision is None) == (kind.revision is None)
        if kind.revision is not None:
            assert (source.revision or "").startswith(kind.revision(world))
        sha256 = source.sha256
    assert not kind.archive or sha256 == sha256_of_zip(world)
    with open_source(uri, scratch=project / "scratch", sha256=sha256) as source:
        assert source.sha256 == sha256


def test_folders_of_the_same_files_have_the_same_hash(world: World, project: Path) -> None:
    found = set()
    for name in ("folder", "s3 prefix", "dvc folder", "dvc clone", "lakefs folder"):
        with open_source(KINDS[name].uri(world), scratch=project / "scratch") as source:
            found.add(source.sha256)
    assert len(found) == 1


def test_another_hash_is_refused_and_leaves_no_temporary_file(kind: Kind, world: World, project: Path) -> None:
    with (
        pytest.raises(UserError, match=r"ingest.sha256: .* params expect 0{64}"),
        open_source(kind.uri(world), scratch=project / "scratch", sha256="0" * 64),
    ):
        pass
    assert list((project / "scratch").iterdir()) == []


def test_what_was_fetched_is_not_fetched_again(kind: Kind, world: World, project: Path) -> None:
    if kind.revision is None:
        assert not (project / DOWNLOADS).exists()
        return
    times = []
    for _ in range(2):
        with open_source(kind.uri(world), scratch=project / "scratch", sha256=wanted(kind, world)) as source:
            source.read(source.names[0])
        times.append({path: path.stat().st_mtime_ns for path in files_in(project / DOWNLOADS)})
    assert times[0] == times[1]
    assert not [path for path in times[0] if ".part" in path.name]
