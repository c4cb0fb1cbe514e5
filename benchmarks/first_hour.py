"""Take drawn sets of public forms from `segops init` to `segops compare`, and compare their pixels with another reader.

    python -m benchmarks.first_hour [--minutes 0.2] [--count 24] [--size 64] [--workers 2] [SET ...]

Each set is run as a stranger would: `segops init`, then the commands of the graph, with no edit of params.yaml. Pillow,
tifffile and numpy read the files anew, by the manifest's names; masks of one file are mapped by `ingest.mask_values`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from typer.testing import CliRunner

from segops.cli.main import app
from segops.contracts.tables import MANIFEST_COLUMNS, MANIFEST_FILE, read_table
from segops.data.shards import read_examples
from segops.params.project import Params, load_params
from tests.support.public_sets import SETS, write_set

_STAGES = ("code", "ingest", "validate", "split", "prepare", "tune")
_OF_CANDIDATE = ("train", "evaluate", "register")


def main() -> None:
    """Print a line for each set."""
    arguments = _parse()
    print("| set | files as | lines of params | edits | graph, s | images equal | masks equal |")
    print("|---|---|---|---|---|---|---|")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        for row in pool.map(partial(_row, arguments=arguments), arguments.sets or list(SETS)):
            print(row, flush=True)


def _row(name: str, *, arguments: argparse.Namespace) -> str:
    """Run a set in a project of its own; return its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(name, Path(folder), arguments)


def _run(name: str, folder: Path, arguments: argparse.Namespace) -> str:
    """Run a set in a folder; return its row of the table."""
    source = write_set(name, folder / "raw", arguments.count, arguments.size)
    about = " ".join((SETS[name].__doc__ or "").split())
    started = time.perf_counter()
    try:
        _segops(folder, "init", source, "--minutes", str(arguments.minutes), "--threads", "1")
        params = load_params(folder / "params.yaml")
        for stage in _STAGES:
            _segops(folder, stage)
        for candidate in params.candidates:
            for stage in _OF_CANDIDATE:
                _segops(folder, stage, candidate)
        _segops(folder, "compare")
    except _StoppedError as error:
        return f"| `{name}` | {about} | stopped at {error} | | | | |"
    seconds = time.perf_counter() - started
    lines = sum(bool(line.strip()) for line in (folder / "params.yaml").read_text(encoding="utf-8").splitlines())
    images, masks = _equal(folder, params)
    return f"| `{name}` | {about} | {lines} | 0 | {seconds:.0f} | {images} | {masks} |"


class _StoppedError(Exception):
    """A command that ended with an error: its name and its last line."""


def _segops(folder: Path, *words: str) -> None:
    """Run a command in the project, in this process, since imports take longer than the work."""
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, list(words))
    if result.exit_code:
        raise _StoppedError(f"{words[0]}: {result.exception or result.output.strip().splitlines()[-1]}")


def _equal(folder: Path, params: Params) -> tuple[str, str]:
    """Count the images and the masks that are equal to another reading of their files."""
    manifest = read_table(folder / "data/dataset" / MANIFEST_FILE, MANIFEST_COLUMNS)
    files = dict(
        zip(manifest["image_id"], zip(manifest["source_image"], manifest["source_mask"], strict=True), strict=True)
    )
    root = folder / "raw"
    images: list[bool] = []
    masks: list[bool] = []
    for example in read_examples(folder / "data/dataset"):
        image, mask = (_find(root, name) for name in files[example.image_id])
        if image is not None:
            images.append(any(_same(example.image_HWC, read) for read in _readings(image)))
        if (
            mask is not None
            and mask.suffix not in (".json", ".csv")
            and params.ingest.mask_kind != "one_file_per_class"
        ):
            masks.append(any(np.array_equal(example.mask_HW, read) for read in _classes(mask, params)))
    return _share(images), _share(masks)


def _find(root: Path, name: str) -> Path | None:
    """Return the file of a member; None for a folder, or a member of an archive."""
    places = (path for path in root.rglob(Path(name).name) if path.as_posix().endswith(f"/{name}"))
    return next((path for path in places if path.is_file()), None)


def _readings(path: Path) -> Iterator[np.ndarray]:
    """Yield a file's array as another library reads it, and without an alpha channel."""
    if path.suffix == ".npy":
        array = np.load(path)
    else:
        array = tifffile.imread(path) if path.suffix in (".tif", ".tiff") else np.asarray(Image.open(path))
    yield array
    if array.ndim == 3 and array.shape[-1] in (2, 4):
        yield array[..., :-1]


def _same(image_HWC: np.ndarray, read: np.ndarray) -> bool:
    """Return whether an image is what was read, or begins with it where it is a stack of channels."""
    read_HWC = read[..., None] if read.ndim == 2 else read
    return np.array_equal(image_HWC[..., : read_HWC.shape[-1]], read_HWC)


def _classes(path: Path, params: Params) -> Iterator[np.ndarray]:
    """Yield class indices HW of a mask as another library reads it."""
    for array in _readings(path):
        if params.ingest.mask_kind == "objects":
            yield array > 0
            continue
        values = params.ingest.class_of_value
        if params.ingest.by_colour and array.ndim == 3:
            array = array.astype(np.int64) @ np.array([65536, 256, 1])
        listed = np.array(sorted(values))
        index = np.array([params.ingest.classes.index(values[value]) for value in listed.tolist()], np.uint8)
        grey = array[..., 0] if array.ndim == 3 else array
        yield index[np.abs(grey[..., None].astype(np.int64) - listed).argmin(axis=-1)]


def _share(equal: list[bool]) -> str:
    """Word how many of those that were compared are equal."""
    return f"{sum(equal)} of {len(equal)}" if equal else "not compared"


def _parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--minutes", type=float, default=0.2)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    main()
