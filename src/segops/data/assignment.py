"""Assigns images to train, val and test: pure functions from ids to subsets.

`grouped`: a group's subset depends on the seed and the group's id alone, so that a dataset that grows never moves an
old group: an old test image stays unseen by every later model. Groups that new images join are in the subset of the
most held-out among them. Such a rule can't balance strata by itself; the imbalance of a seed is measured instead, and
a better seed is searched by counts, never by scores.

Axes: S seeds, G groups, K strata, B subsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from segops.contracts.base import SUBSETS, Subset
from segops.contracts.tables import split_assignment
from segops.params.split import SplitParams, SplitProtocol

PUBLISHED_FRACTIONS = (0.6, 0.2, 0.2)  # train, val, test
_PUBLISHED_RANDOM_STATE = 42
_MIN_STRATUM_GROUPS = 5  # a smaller stratum can't be balanced
_SEEDS = 500
_MAX_HASHES = 2_000_000  # of a seed search, about 2 s

Fractions = tuple[float, float, float]
Counts = npt.NDArray[np.float64]


def unit(text: str) -> float:
    """Return a number in [0, 1) from the first 8 bytes of the text's SHA-256, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def subset_of_group(group_id: str, seed: int, fractions: Fractions) -> Subset:
    """Return the subset of a group, a function of seed and id alone; `fractions` are of train, val and test."""
    return SUBSETS[int(_cut(unit(f"{seed}/{group_id}"), fractions))]


def _cut(position: float | Counts, fractions: Fractions) -> npt.NDArray[np.intp]:
    """Return the index into SUBSETS of each number in [0, 1): train first, then val, then test."""
    return np.searchsorted([fractions[0], fractions[0] + fractions[1]], position, side="right")


def fold(group_id: str, seed: int, folds: int) -> int:
    """Return the cross-validation fold, 0..folds-1, of a group outside test, by a hash of seed and id."""
    digest = hashlib.sha256(f"{seed}/fold/{group_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % folds


def grouped(
    manifest: pd.DataFrame,
    seed: int,
    fractions: Fractions,
    folds: int,
    *,
    joined: Mapping[str, Sequence[str]] = MappingProxyType({}),
    val_fold: int | None = None,
) -> pd.DataFrame:
    """Assign whole groups to subsets and folds; return SPLIT_COLUMNS in the manifest's order. A subset may be empty.

    Args:
        manifest: MANIFEST_COLUMNS.
        seed, fractions, folds: as `subset_of_group` and `fold` take them.
        joined: the names that a group's images have had, its own among them, where there are several. The group is in
            the most held-out subset of these names (test, val, train), so that no old image comes into train.
        val_fold: the fold that is going to be val, which of a group of several names goes before the others.
    """
    groups = manifest["group_id"].drop_duplicates()
    names = {group: [group, *joined.get(group, ())] for group in groups}
    subset_of = {
        group: max((subset_of_group(name, seed, fractions) for name in names[group]), key=SUBSETS.index)
        for group in groups
    }
    fold_of = {group: _fold_of(names[group], seed, folds, val_fold) for group in groups}
    units = manifest["group_id"]
    return _table(manifest, units.map(subset_of), units.map(fold_of), "grouped")


def subset_by_name(group_id: str, params: SplitParams) -> Subset:
    """Return the subset, after the choice of a fold, of a group that has had a single name, under `grouped`."""
    subset = subset_of_group(group_id, params.seed, params.fractions)
    if params.fold is None or subset == "test":
        return subset
    return "val" if fold(group_id, params.seed, params.folds) == params.fold else "train"


def _fold_of(names: Sequence[str], seed: int, folds: int, val_fold: int | None) -> int:
    """Return the fold of a group that has had those names: `val_fold` if any name is in it, else the first name's."""
    of_names = [fold(name, seed, folds) for name in names]
    return val_fold if val_fold is not None and val_fold in of_names else of_names[0]


def published(manifest: pd.DataFrame, seed: int, folds: int) -> pd.DataFrame:
    """Assign images as in the published tables: ids sorted, `train_test_split` twice with `random_state` 42.

    The first cut of int(0.2 n) images is validation, the second cut test. `seed` names the folds only.
    Raises ValueError when there are fewer than 5 images.
    """
    from sklearn.model_selection import train_test_split

    ids = sorted(manifest["image_id"])
    size = int(PUBLISHED_FRACTIONS[2] * len(ids))
    if size < 1:
        raise ValueError(
            f"the published protocol needs at least 5 images, found {len(ids)}; add images or set it to grouped"
        )
    rest, val = train_test_split(ids, test_size=size, random_state=_PUBLISHED_RANDOM_STATE)
    train, test = train_test_split(rest, test_size=size, random_state=_PUBLISHED_RANDOM_STATE)
    subset_of = {image: name for name, images in zip(SUBSETS, (train, val, test), strict=True) for image in images}
    fold_of = manifest["image_id"].map(lambda image_id: fold(image_id, seed, folds))
    return _table(manifest, manifest["image_id"].map(subset_of), fold_of, "published")


def given(manifest: pd.DataFrame, seed: int, fractions: Fractions, folds: int) -> pd.DataFrame:
    """Assign images to the subsets that the data come with.

    Where they come without val, it is taken out of train as `grouped` would, by whole groups, so that test is read for
    nothing. A group that the data have on two sides stays there. Raises ValueError for images without a subset.
    """
    subset = manifest["given_subset"]
    lacking = manifest["image_id"][subset == ""].tolist()
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(manifest)} images have no subset ({', '.join(lacking[:5])}); set "
            "ingest.subset_folders, or give the table a column subset"
        )
    if "val" not in set(subset):
        share = fractions[1] / (fractions[0] + fractions[1])
        into_val = manifest["group_id"].map(lambda group: unit(f"{seed}/{group}") >= 1 - share)
        subset = subset.mask((subset == "train") & into_val, "val")
    return _table(manifest, subset, manifest["group_id"].map(lambda group: fold(group, seed, folds)), "given")


def _table(manifest: pd.DataFrame, subset: pd.Series, fold_of: pd.Series, protocol: SplitProtocol) -> pd.DataFrame:
    """Build the checked assignment table: SPLIT_COLUMNS, with fold -1 for images in test."""
    table = pd.DataFrame(
        {
            "image_id": manifest["image_id"].to_numpy(),
            "group_id": manifest["group_id"].to_numpy(),
            "subset": subset.to_numpy(),
            "fold": np.where(subset == "test", -1, fold_of).astype(np.int64),
        }
    )
    return split_assignment(table, protocol)


def by_fold(table: pd.DataFrame, fold: int) -> pd.DataFrame:
    """Reassign by cross-validation fold: val becomes the given fold, train the other folds; test stays."""
    subset = np.where(table["fold"] == -1, "test", np.where(table["fold"] == fold, "val", "train"))
    return table.assign(subset=subset)


def strata(manifest: pd.DataFrame, unit_id: pd.Series) -> tuple[list[str], Counts]:
    """Count the images of each group in each stratum (modality and foreground tercile) and in the whole dataset.

    A group's modality is the most frequent among its images; its foreground tercile is taken among the groups of that
    modality, by the mean foreground of its images. Strata of fewer than 5 groups are left out.

    Args:
        unit_id: what is assigned together, one row per image: `group_id`, or `image_id` under `published`.

    Returns:
        The sorted unit ids (G), and the images of each unit in each stratum, GK; the last stratum is the whole.
    """
    by_unit = manifest.groupby(unit_id.to_numpy())
    units = pd.DataFrame(
        {
            "modality": by_unit["modality"].agg(lambda values: values.mode().iloc[0]),
            "foreground": by_unit["foreground_fraction"].mean(),
            "images": by_unit.size(),
        }
    ).sort_index()
    rank = units.groupby("modality")["foreground"].rank(method="first") - 1
    tercile = (3 * rank / units.groupby("modality")["foreground"].transform("size")).astype(int)
    stratum = units["modality"] + "/" + tercile.astype(str)
    names, members = np.unique(stratum.to_numpy(dtype=str), return_counts=True)
    large = names[members >= _MIN_STRATUM_GROUPS]
    belongs_GK = np.column_stack([*(stratum.to_numpy(dtype=str) == name for name in large), np.ones(len(units), bool)])
    return list(units.index), belongs_GK * units["images"].to_numpy(np.float64)[:, None]


def imbalance(subset_SG: npt.NDArray[np.intp], images_GK: Counts, fractions: Fractions) -> Counts:
    """Measure, by seed (S), the largest gap between the share of a stratum's images in a subset and the asked share.

    Args:
        subset_SG: index into SUBSETS.
        images_GK: images of each group in each stratum.
    """
    total_K = images_GK.sum(axis=0)
    gaps = [
        np.abs((subset_SG == index).astype(np.float64) @ images_GK / total_K - asked).max(axis=1)
        for index, asked in enumerate(fractions)
    ]
    return np.asarray(np.max(gaps, axis=0))


def subset_index(table: pd.DataFrame, unit_id: pd.Series, units: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the subset of each unit of an assignment as an index into SUBSETS, 1G."""
    of_unit = dict(zip(unit_id, table["subset"], strict=True))
    return np.array([[SUBSETS.index(of_unit[name]) for name in units]], np.intp)


def best_seed(units: Sequence[str], images_GK: Counts, fractions: Fractions) -> tuple[int, float] | None:
    """Return the seed among the first 500 with the smallest imbalance and no empty subset, and that imbalance.

    Fewer seeds are tried where there are many groups; those are balanced by their number. None where every seed leaves
    a subset empty.
    """
    seeds = range(max(10, min(_SEEDS, _MAX_HASHES // len(units))))
    subset_SG = _cut(np.array([[unit(f"{seed}/{name}") for name in units] for seed in seeds]), fractions)
    gap_S = imbalance(subset_SG, images_GK, fractions)
    for index in range(len(SUBSETS)):
        gap_S[~(subset_SG == index).any(axis=1)] = np.inf
    seed = int(np.argmin(gap_S))
    return (seed, float(gap_S[seed])) if np.isfinite(gap_S[seed]) else None
