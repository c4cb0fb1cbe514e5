"""Files that are damaged, foreign or hostile, thrown at the functions of the product that read them.

`right`: read as before, or as the valid file that it happens to be. A change that a hash should have told, and that
was read without a word, is `wrong`; so is a line that doesn't name the file, and one that comes after half a minute.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.chaos.judge import BAD_INPUTS, judged
from benchmarks.chaos.outcome import Outcome
from benchmarks.chaos.project import CANDIDATE, Project
from segops.data.sources.source import open_source
from segops.errors import OneLineError
from segops.params.ingest import IngestParams
from segops.params.project import load_params
from segops.stages.ingest import ingest
from tests.support.damage import WAYS, damaged
from tests.support.readers import Reader, readers

NAME = BAD_INPUTS
_FILES, _ARCHIVES, _IMAGES, _TABLES, _PARAMS = 52, 40, 24, 60, 8  # of each sort, at share 1


def run(folder: Path, share: float, seed: int) -> Iterator[Outcome]:
    """Yield what became of each bad input."""
    draw = random.Random(seed)
    Project(folder / "project", upto="evaluate")
    project = folder / "project/now"
    yield from _stage_files(project, share, draw)
    yield from _archives(folder / "archives", share, draw)
    yield from _images(folder / "images", share, draw)
    yield from _tables(folder / "tables", share, draw)
    yield from _params(project / "params.yaml", folder / "params.yaml", share, draw)
    yield from _sources(folder)


def _times(number: int, share: float) -> Iterator[tuple[int, str]]:
    """Yield numbers with ways to damage, each way in turn."""
    ways = list(WAYS)
    return ((count, ways[count % len(ways)]) for count in range(max(1, round(number * share))))


def _stage_files(project: Path, share: float, draw: random.Random) -> Iterator[Outcome]:
    """Damage each file between stages of a finished project."""
    for name, reader in readers(CANDIDATE).items():
        path = project / reader.file
        content, expected = path.read_bytes(), repr(reader.read(project))
        for count, way in _times(_FILES, share):
            path.write_bytes(damaged(content, way, draw))
            yield _judged_file(f"{name}: {way}, {count}", reader, project, expected)
        path.unlink()
        yield _judged_file(f"{name}: missing", reader, project, expected)
        path.mkdir()
        yield _judged_file(f"{name}: a folder", reader, project, expected)
        path.rmdir()
        path.write_bytes(content)


def _judged_file(case: str, reader: Reader, project: Path, expected: str) -> Outcome:
    path = Path(reader.file)
    return judged(case, lambda: reader.read(project), (path.name, path.parent.name), expected, sealed=reader.sealed)


def _png(draw: random.Random, size: int = 16) -> bytes:
    buffer = io.BytesIO()
    pixels = np.frombuffer(draw.randbytes(size * size), np.uint8).reshape(size, size)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _mask(size: int = 16) -> bytes:
    buffer = io.BytesIO()
    mask = np.zeros((size, size), np.uint8)
    mask[4:9, 3:8] = 255
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def _members(draw: random.Random) -> dict[str, bytes]:
    return {
        f"{kind}/{number}.png": _png(draw) if kind == "images" else _mask()
        for number in range(2)
        for kind in ("images", "masks")
    }


def _packed(kind: str, members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


HOSTILE_NAMES = ("../out.png", "/etc/out.png", "a/../../out.png", "C:/out.png", "a\\b.png", "a\nb.png", "a\0b.png")


def _archives(folder: Path, share: float, draw: random.Random) -> Iterator[Outcome]:
    """Damage archives, and pack them with names that leave them."""
    folder.mkdir()
    scratch = folder / "scratch"
    scratch.mkdir()

    def members(path: Path) -> object:
        with open_source(str(path), scratch=scratch, max_gib=0.1) as source:
            return [(name, source.read(name)) for name in source.names]

    for kind in ("zip", "tar", "tar.gz"):
        whole = _packed(kind, _members(draw))
        path = folder / f"raw.{kind}"
        path.write_bytes(whole)
        expected = repr(members(path))
        for count, way in _times(_ARCHIVES, share):
            path.write_bytes(damaged(whole, way, draw))
            yield judged(f"{kind}: {way}, {count}", partial(members, path), (path.name,), expected)
        for name in HOSTILE_NAMES:
            path.write_bytes(_packed(kind, {name: b"x", **_members(draw)}))
            yield judged(f"{kind}: member {name!r}", partial(members, path), (path.name,))
            if list(folder.parent.rglob("out.png")):
                yield Outcome(NAME, f"{kind}: member {name!r}", "wrong", "it was written outside")
    path = folder / "bomb.zip"
    path.write_bytes(_packed("zip", {f"{number}.png": bytes(30 * 2**20) for number in range(6)}))
    yield judged("zip: unpacks to 180 MiB of zeros", partial(members, path), (path.name,))


def _encoded(draw: random.Random) -> dict[str, bytes]:
    """A small image in each format."""
    pixels = np.frombuffer(draw.randbytes(16 * 16 * 3), np.uint8).reshape(16, 16, 3)
    found: dict[str, bytes] = {}
    for suffix, kind in {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "bmp": "BMP", "webp": "WEBP"}.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        found[suffix] = buffer.getvalue()
    for suffix, save in {"npy": np.save, "npz": np.savez_compressed}.items():
        buffer = io.BytesIO()
        save(buffer, pixels)
        found[suffix] = buffer.getvalue()
    return found


def _images(folder: Path, share: float, draw: random.Random) -> Iterator[Outcome]:
    """Damage an image, or its mask, of a folder that is ingested."""
    for suffix, content in _encoded(draw).items():
        for count, way in _times(_IMAGES, share):
            place = folder / f"{suffix}-{count}"
            bad = place / f"raw/images/bad.{suffix}"
            _write(place / "raw", {f"images/bad.{suffix}": damaged(content, way, draw), "masks/bad.png": _mask()})
            yield judged(f"{suffix}: {way}, {count}", partial(_ingested, place), (bad.name, "raw"))
    for count, way in _times(2 * _IMAGES, share):
        place = folder / f"mask-{count}"
        _write(place / "raw", {"images/bad.png": _png(draw), "masks/bad.png": damaged(_mask(), way, draw)})
        yield judged(f"mask: {way}, {count}", partial(_ingested, place), ("bad.png", "raw"))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write files below a folder, beside a good pair."""
    for name, content in {"images/good.png": _png(random.Random(1)), "masks/good.png": _mask(), **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _ingested(place: Path, **params: object) -> object:
    """Ingest the folder `raw`; nothing half-written is left where that is refused."""
    section: dict[str, object] = {
        "source": str(place / "raw"),
        "layout": "pairs",
        "licence": "unknown",
    }
    try:
        return ingest(IngestParams.model_validate(section | params), dataset=place / "dataset").images
    except OneLineError:
        if (place / "dataset").exists():
            raise AssertionError("a dataset was left") from None
        raise


def _tables(folder: Path, share: float, draw: random.Random) -> Iterator[Outcome]:
    """Damage the table of a source, and its annotations."""
    table = b"image,mask,patient\nimages/good.png,masks/good.png,a\nimages/b.png,masks/b.png,b\n"
    coco = json.dumps(
        {
            "images": [{"id": 1, "file_name": "good.png", "height": 16, "width": 16}],
            "categories": [{"id": 1, "name": "cell"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[2, 2, 9, 2, 9, 9]]}
            ],
        }
    ).encode()
    kinds: dict[str, tuple[bytes, dict[str, object]]] = {
        "table.csv": (table, {"layout": "csv", "table": "table.csv", "group_by": "layout"}),
        "annotations.json": (coco, {"layout": "coco", "table": "annotations.json"}),
    }
    for name, (content, params) in kinds.items():
        for count, way in _times(_TABLES, share):
            place = folder / f"{name}-{count}"
            files = {name: damaged(content, way, draw), "images/b.png": _png(draw), "masks/b.png": _mask()}
            _write(place / "raw", files)
            yield judged(
                f"{name}: {way}, {count}",
                partial(_ingested, place, **params),
                (name, "raw", "good.png", "b.png"),
            )


def _params(path: Path, target: Path, share: float, draw: random.Random) -> Iterator[Outcome]:
    """Put a wrong value into each leaf of params.yaml in turn, and odd texts in place of the file."""
    whole = yaml.safe_load(path.read_text())
    values: list[object] = [None, "x", -1, 10**30, float("nan"), float("inf"), [], {}, [[]], True, "a/b", "é\0", "../x"]
    for keys in _leaves(whole):
        for value in draw.sample(values, max(1, round(_PARAMS * share))):
            changed = json.loads(json.dumps(whole))
            inner = changed
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
            target.write_text(yaml.safe_dump(changed))
            yield judged(f"params {'.'.join(keys)} = {value!r}", partial(load_params, target), ("params.yaml",))
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    )
    texts = {
        "aliases that multiply": bomb,
        "a tag": "!!python/object/apply:os.system ['true']",
        "tabs": "a:\n\t- b",
        "a loop": "&a [*a]",
    }
    for name, text in texts.items():
        target.write_text(text)
        yield judged(f"params: {name}", partial(load_params, target), ("params.yaml",))


def _leaves(value: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of a nested dict's leaves."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, key))
    elif keys:
        yield keys


def _sources(folder: Path) -> Iterator[Outcome]:
    """Name sources that no one can open."""
    (folder / "file.txt").write_text("x")
    (folder / "empty").mkdir()
    named = [
        "", " ", ".", "/", "nowhere", "file.txt", "empty", "file.txt/x", "x" * 5000, "a\0b", "s3://", "s3:///x", "s4://b/x",
        "http://", "http:///x.zip", "https://[::1/x.zip", "http://127.0.0.1:99999/x.zip", "dvc://", "dvc://x", "dvc://#x",
        "dvc://ext::sh -c true#raw", "dvc://--upload-pack=true#raw", "dvc://nowhere@v1#raw", "synthetic://", "synthetic://x",
        "synthetic://nuclei?n=0", "synthetic://nuclei?n=1e9", "synthetic://nuclei?n=1&n=2", "://", "file:///etc/passwd",
        "ftp://127.0.0.1/x.zip", "~nobody-here/x.zip", "${UNSET_VARIABLE}", "s3://bucket with space/x.zip",
    ]  # fmt: skip
    for uri in named:
        place = folder / uri if uri in ("file.txt", "empty", "file.txt/x") else uri

        def opened(uri: str = str(place)) -> object:
            with open_source(uri, scratch=folder) as source:
                return source.names

        yield judged(f"source {uri[:60]!r}", opened, (uri[:40].strip(), "ingest.source", "source"))
