"""Measure what docs/explanation/scale.md multiplies: the CPU time of an image of a megapixel, and of a manifest's row.

python -m benchmarks.scale_constants [--images 24] [--rows 400000]

Images are RGB of 1024x1024 pixels, smooth shapes under noise, each with a mask, as PNG. Rows are those of a manifest
alone, of which `validate` judges its expectations without a look at pixels, and `split` deals out groups of eight.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from segops.contracts.dataset import Dataset, Shard
from segops.contracts.tables import INDEX_COLUMNS, MANIFEST_COLUMNS, MANIFEST_FILE, read_table, write_table
from segops.contracts.validation import ValidationReport
from segops.data.arrays import INDEX
from segops.data.fingerprint import summarize
from segops.data.manifest import read_manifest
from segops.files import sha256_file
from segops.params.split import SplitParams
from segops.params.validate import ValidateParams
from segops.stages.ingest import ingest
from segops.stages.prepare import prepare
from segops.stages.split import split
from segops.validation.suite import run
from tests.support.factories import ingest_params, tiny_split, write_image

_SIDE_PX = 1024
_CLASSES = ["background", "cell"]


@contextmanager
def told(what: str, count: int, unit: str) -> Iterator[None]:
    """Print a block's CPU time and memory, of each of its items."""
    kib, began = _peak_kib(), time.process_time()
    yield
    ms, grown = 1000 * (time.process_time() - began) / count, (_peak_kib() - kib) / count
    print(f"{what}: {ms:.3g} ms of CPU time, {grown:.2g} KiB more at the peak, {unit}", flush=True)


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def megapixel(root: Path, count: int) -> None:
    """Ingest and prepare images of a megapixel."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shapes_HW = gaussian_filter(rng.normal(size=(_SIDE_PX, _SIDE_PX)), 12)
        shapes_HW = (shapes_HW - shapes_HW.min()) / np.ptp(shapes_HW)
        noise_HWC = rng.normal(30, 6, (_SIDE_PX, _SIDE_PX, 3))
        image_HWC = np.clip(shapes_HW[..., None] * [180, 120, 160] + noise_HWC, 0, 255).astype(np.uint8)
        write_image(root / f"raw/images/{number:03d}.png", image_HWC)
        write_image(root / f"raw/masks/{number:03d}.png", (shapes_HW > 0.6).astype(np.uint8) * 255)
    with told("ingest", count, "an image"):
        about = ingest(ingest_params(root / "raw"), dataset=root / "dataset")
    print(f"encoded: {sum(shard.size_bytes for shard in about.shards) / count / 1e6:.2f} MB an image and its mask")
    tiny_split(root / "dataset", root / "split")
    with told("prepare", count, "an image"):
        prepare(dataset=root / "dataset", split=root / "split", prepared=root / "prepared")


def table(count: int) -> pd.DataFrame:
    """Return a manifest of so many rows."""
    rng = np.random.default_rng(0)
    ids, hashes = [f"image{row:07d}" for row in range(count)], [f"{row:064x}" for row in range(count)]
    columns = dict.fromkeys(MANIFEST_COLUMNS, "") | {
        "image_id": ids,
        "group_id": [f"group{row // 8:06d}" for row in range(count)],
        "shard": [f"shards/shard-{row // 80:05d}.tar" for row in range(count)],
        "modality": "appearance-1",
        **dict.fromkeys(("depth", "intensity_max"), 1),
        **dict.fromkeys(("height", "width", "mask_height", "mask_width"), _SIDE_PX),
        **dict.fromkeys(("spacing_d_mm", "spacing_h_mm", "spacing_w_mm"), np.nan),
        **dict.fromkeys(("ignored_fraction", "intensity_min", "saturated_fraction"), 0.0),
        "channels": 3,
        "dtype": "uint8",
        "classes": "0 1",
        "instances": -1,
        "intensity_std": 0.1,
        "image_sha256": hashes,
        "mask_sha256": hashes[::-1],
        "foreground_fraction": rng.uniform(0.05, 0.3, count),
        "intensity_mean": rng.uniform(0.3, 0.6, count),
        "source_image": [f"images/{name}.png" for name in ids],
        "source_mask": [f"masks/{name}.png" for name in ids],
    }
    return pd.DataFrame(columns, columns=list(MANIFEST_COLUMNS))


def rows(root: Path, count: int) -> None:
    """Read a manifest's rows, judge them, and split them."""
    manifest, knobs = table(count), ingest_params("x")
    root.mkdir()
    write_table(manifest, root / MANIFEST_FILE, MANIFEST_COLUMNS)
    sha256 = sha256_file(root / MANIFEST_FILE)
    Dataset(
        name="rows", licence="none", source="x", source_sha256=sha256, layout="pairs", group_by="layout",
        classes=_CLASSES, class_colours=knobs.colours, class_share={"background": 0.8, "cell": 0.2},
        manifest_sha256=sha256, shards=[Shard(file="s", sha256=sha256, size_bytes=1, images=count)],
        **summarize(manifest),
    ).save(root)  # fmt: skip
    judged = run(manifest.head(100), ValidateParams(), _CLASSES, None)  # imports what it needs
    ValidationReport(
        manifest_sha256=sha256, images=count, success=True, expectations=[seen for _, seen in judged]
    ).save(root)
    del manifest
    with told(f"reading {count} rows", count, "a row"):
        _, manifest = read_manifest(root)
    print(f"the manifest in pandas: {manifest.memory_usage(deep=True).sum() / count:.0f} bytes a row")
    with told(f"validate's expectations, {count} rows", count, "a row"):
        run(manifest, ValidateParams(), _CLASSES, None)
    index = manifest.reindex(columns=list(INDEX_COLUMNS)).astype(object)
    filled = {name: index[name].fillna("" if kind == "str" else 0) for name, kind in INDEX_COLUMNS.items()}
    write_table(pd.DataFrame(filled), root / INDEX, INDEX_COLUMNS)
    del manifest, index, filled
    entries = read_table(root / INDEX, INDEX_COLUMNS)
    print(f"the prepared index in pandas: {entries.memory_usage(deep=True).sum() / count:.0f} bytes a row")
    del entries
    with told(f"split, {count} rows", count, "a row"):
        split(SplitParams(), dataset=root, report=root, split=root / "split")


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rows", type=int, default=400_000)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows(Path(folder) / "rows", arguments.rows)
        megapixel(Path(folder), arguments.images)


if __name__ == "__main__":
    main()
