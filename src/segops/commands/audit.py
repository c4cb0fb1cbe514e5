"""Audits a split: which test images have a relative in training, and what that is worth.

A person's command, not a graph stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from segops.contracts.audit import RELATIVE_COLUMNS, RELATIVES_FILE, Audit
from segops.contracts.base import SUBSET_NAMES, SUBSETS
from segops.contracts.tables import write_csv
from segops.data.relatives import KINDS, Relative, RelativeFinder
from segops.errors import UserError
from segops.files import output_folder, readable, run_record, write_text
from segops.params.project import Params
from segops.progress import counted, track
from segops.reports.audit_page import PAGE, audit_page

if TYPE_CHECKING:
    import pandas as pd

LEAKS = 6  # the command's exit code
_NAMED = 3  # ids that a message lists


def audit(*, dataset: Path, split: Path, report: Path, worth: tuple[str, Params] | None = None) -> Audit:
    """List the test images that have a relative in training, by kind.

    Args:
        split: a table, CSV or parquet, with the columns image_id and subset (train, val, test).
        report: for audit.json, relatives.csv, index.html and run.json; replaced as a whole.
        worth: a candidate, and its params, that is trained with and without the relatives: what do they add to its
            score.

    Raises:
        UserError: a file is missing or unreadable, the split isn't of this dataset, or training needs more images.
    """
    from segops.commands.audit_worth import leak_worth
    from segops.data.manifest import read_manifest
    from segops.data.shards import StoredExample, read_example, read_examples

    about, manifest = read_manifest(dataset)
    rows = assigned(manifest, split)
    finder = RelativeFinder(tiles=about.dimensions == 2)
    test, train = (rows.loc[rows["subset"] == name, "image_id"].tolist() for name in ("test", "train"))
    for shown in map(StoredExample.as_picture, track(read_examples(dataset, rows["image_id"]), "audit", len(rows))):
        finder.add(shown.image_id, shown.image_HWC)
    found = [*_by_manifest(rows), *finder.related(test, train)]
    table = relatives_table(found, rows)
    measured = leak_worth(*worth, dataset, rows, found) if worth else None
    with output_folder(report) as folder, run_record(folder, "audit"):
        result = Audit(
            dataset=about.name,
            manifest_sha256=about.manifest_sha256,
            split=split.name,
            train_images=len(train),
            test_images=len(test),
            leaking_images=int(table["image_id"].nunique()),
            by_kind={kind: int((table["kind"] == kind).sum()) for kind in KINDS},
            worth=measured,
        )
        result.save(folder)
        write_csv(table, folder / RELATIVES_FILE)
        write_text(folder / PAGE, audit_page(result, table, manifest, partial(read_example, dataset)))
    return result


def assigned(manifest: pd.DataFrame, split: Path) -> pd.DataFrame:
    """Read a split's table, and return the manifest's rows of the images that it names, with their subset."""
    table = _read(split)
    missing = [name for name in ("image_id", "subset") if name not in table.columns]
    if missing:
        raise UserError(f"{split}: no column {' and '.join(missing)}; it needs image_id and subset, a row an image")
    subset = table["subset"].astype(str).str.strip().str.lower().replace(SUBSET_NAMES)
    table = table.assign(image_id=table["image_id"].astype(str), subset=subset)
    if len(unknown := sorted(set(subset) - set(SUBSETS))):
        raise UserError(f"{split}: subset '{unknown[0]}' is none of {', '.join(SUBSETS)}")
    if len(twice := table.loc[table["image_id"].duplicated(), "image_id"]):
        raise UserError(f"{split}: image '{twice.iloc[0]}' has two rows; keep one")
    if strange := sorted(set(table["image_id"]) - set(manifest["image_id"])):
        named = ", ".join(strange[:_NAMED]) + (", ..." if len(strange) > _NAMED else "")
        raise UserError(
            f"{split}: {len(strange)} of its {len(table)} images aren't in the dataset ({named}; the dataset has "
            f"{manifest['image_id'].iloc[0]}); name them as in manifest.parquet, or ingest them"
        )
    rows = manifest.merge(table[["image_id", "subset"]], on="image_id").sort_values("image_id", ignore_index=True)
    for name in ("train", "test"):
        if not (rows["subset"] == name).any():
            raise UserError(f"{split}: no image is in {name}; nothing to compare")
    return rows


def _read(split: Path) -> pd.DataFrame:
    """Read a table by its suffix. Raises UserError where it is missing or isn't one."""
    import pandas as pd

    try:
        with readable(split, "CSV or parquet table", "correct it, or name another with --split"):
            return pd.read_parquet(split) if split.suffix == ".parquet" else pd.read_csv(split, dtype=str)
    except FileNotFoundError:
        raise UserError(f"{split}: no such file; run `segops split`, or name a table with --split") from None


def _by_manifest(rows: pd.DataFrame) -> Iterable[Relative]:
    """Yield the test images that share a group or all pixels with a training image."""
    train = rows[rows["subset"] == "train"]
    for row in rows[rows["subset"] == "test"].itertuples():
        for other in train.loc[train["group_id"] == row.group_id, "image_id"]:
            yield Relative(str(row.image_id), other, "same group", f"group {row.group_id}")
        for other in train.loc[train["image_sha256"] == row.image_sha256, "image_id"]:
            yield Relative(str(row.image_id), other, "duplicate", "equal pixels")


def relatives_table(found: Iterable[Relative], rows: pd.DataFrame) -> pd.DataFrame:
    """Return RELATIVE_COLUMNS: a row per test image and kind with its closest relative; duplicates aren't near ones."""
    import pandas as pd

    found = list(dict.fromkeys(found))
    copies = {pair[:2] for pair in found if pair.kind == "duplicate"}
    kept = [pair for pair in found if pair.kind != "near-duplicate" or pair[:2] not in copies]
    table = pd.DataFrame(kept, columns=list(Relative._fields))
    table = table.assign(order=table["kind"].map(KINDS.index), closest=-table["strength"].astype(float))
    table = table.sort_values(["image_id", "order", "closest", "relative_id"], ignore_index=True)
    keys = ["image_id", "kind"]
    table["relatives"] = table.groupby(keys)["relative_id"].transform("nunique")
    table = table.drop_duplicates(keys).merge(rows[["image_id", "group_id"]], on="image_id")
    return table[list(RELATIVE_COLUMNS)]


def summary(audit: Audit) -> str:
    """Say in a line how many test images leak, by kind, and what that is worth."""
    if not audit.leaking_images:
        return f"none of {counted(audit.test_images, 'test image')} has a relative in training"
    kinds = ", ".join(f"{kind} {count}" for kind, count in audit.by_kind.items() if count)
    worth = f"; Dice inflation {audit.worth.inflation.words(4, signed=True)}" if audit.worth else ""
    return (
        f"{audit.leaking_images} of {counted(audit.test_images, 'test image')} "
        f"{'has' if audit.leaking_images == 1 else 'have'} a relative in training ({kinds}){worth}"
    )
