"""Splits a dataset: decides which images are never seen in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segops.contracts.base import SUBSETS, Subset
from segops.contracts.dataset import Dataset
from segops.contracts.split import Split, SubsetSummary
from segops.contracts.tables import DATASET_CARD_FILE, SPLIT_COLUMNS, SPLIT_FILE, write_table
from segops.contracts.validation import ValidationReport
from segops.errors import UserError
from segops.files import output_folder, run_record, write_text
from segops.params.promote import FEWEST_GROUPS
from segops.params.split import SplitParams
from segops.progress import counted, note, say
from segops.reports.dataset_card import dataset_card
from segops.reports.split_page import SPLIT_PAGE, split_page

if TYPE_CHECKING:
    import pandas as pd

_LARGEST_SHARE = 0.3  # of the groups, for val or for test: more leaves too little to train on
_CLEARLY = 0.02  # a better seed is worth a line when it closes the gap by so much


def split(params: SplitParams, *, dataset: Path, report: Path, split: Path) -> Split:
    """Assign every image of a validated dataset to train, val or test, and to a fold.

    Reads the dataset and its validation report; writes `split.parquet`, `split.json`, `dataset_card.md`
    and `split.html`.

    Raises:
        UserError: the report failed or is of other data, or a subset would be empty or without foreground (the text
            names a seed that mends it).
    """
    from segops.data import assignment
    from segops.data.manifest import read_manifest

    with output_folder(split) as folder, run_record(folder, "split"):
        about, manifest = read_manifest(dataset)
        checked = ValidationReport.load(report)
        _check_report(checked, about, report)
        table = _assign(manifest, params, about)
        gap, advice = _balance(manifest, table, params)
        table = assignment.by_fold(table, params.fold) if params.fold is not None else table
        _check_filled(table, params)
        _check_foreground(manifest, table, params)
        result = summarize(manifest, table, params, about.manifest_sha256, gap, advice)
        write_table(table, folder / SPLIT_FILE, SPLIT_COLUMNS)
        result.save(folder)
        write_text(folder / DATASET_CARD_FILE, dataset_card(about, checked, result))
        write_text(folder / SPLIT_PAGE, split_page(about, manifest, table, result, _asked(params)))
    _say_split(result)
    if params.protocol == "grouped":
        _say_joined(about, table, params)
    return result


def _asked(params: SplitParams) -> Sequence[float]:
    """Return the fractions of train, val and test that were asked for; none of a fold or of the data's own subsets."""
    from segops.data.assignment import PUBLISHED_FRACTIONS

    if params.fold is not None or params.protocol == "given":
        return ()
    return params.fractions if params.protocol == "grouped" else PUBLISHED_FRACTIONS


def _check_report(checked: ValidationReport, about: Dataset, folder: Path) -> None:
    """Raise UserError for a validation report that failed or is of another manifest."""
    path = folder / checked.FILE
    if checked.manifest_sha256 != about.manifest_sha256:
        raise UserError(f"{path}: is of another manifest than the dataset's; run `segops validate` again")
    if not checked.success:
        failed = ", ".join(e.name for e in checked.expectations if e.severity == "critical" and not e.success)
        raise UserError(f"{path}: validation failed ({failed}); mend the data, then run `segops validate` again")


def _assign(manifest: pd.DataFrame, params: SplitParams, about: Dataset) -> pd.DataFrame:
    """Assign the images by the protocol. Raises UserError where there are too few."""
    from segops.data import assignment

    if params.protocol == "grouped":
        return assignment.grouped(
            manifest, params.seed, params.fractions, params.folds, joined=about.joined_groups, val_fold=params.fold
        )
    try:
        if params.protocol == "given":
            return assignment.given(manifest, params.seed, params.fractions, params.folds)
        return assignment.published(manifest, params.seed, params.folds)
    except ValueError as error:
        raise UserError(f"split.protocol {params.protocol}: {error}") from None


def _check_filled(table: pd.DataFrame, params: SplitParams) -> None:
    """Raise UserError where the chosen fold leaves a subset empty: a fold may hold no group at all."""
    for name in SUBSETS:
        if name not in set(table["subset"]):
            mend = (
                "lower split.folds or change split.seed" if params.fold is not None else "set split.protocol: grouped"
            )
            what = f"split.fold {params.fold}" if params.fold is not None else f"split.protocol {params.protocol}"
            raise UserError(f"{what} leaves {name} empty; {mend}")


def _check_foreground(manifest: pd.DataFrame, table: pd.DataFrame, params: SplitParams) -> None:
    """Raise UserError for a subset without foreground, in which nothing can be learnt, chosen or judged."""
    has = manifest["foreground_fraction"] > 0
    lacking = [name for name in SUBSETS if not has[(table["subset"] == name).to_numpy()].any()]
    if lacking:
        grouped = params.protocol == "grouped" and params.fold is None
        seed = _seed_with_foreground(manifest[has], params) if grouped else None
        mend = f"set split.seed: {seed}" if seed is not None else "annotate more images, or change split's params"
        raise UserError(
            f"split.seed {params.seed} leaves {' and '.join(lacking)} without an image that has foreground "
            f"({int(has.sum())} of {len(has)} have), so nothing can be judged; {mend}"
        )


def _seed_with_foreground(rows: pd.DataFrame, params: SplitParams) -> int | None:
    """Return the seed that balances the images with foreground best, with some in each subset; None where none does."""
    from segops.data import assignment

    if not len(rows):
        return None
    best = assignment.best_seed(*assignment.strata(rows, rows["group_id"]), params.fractions)
    return best[0] if best else None


def _balance(manifest: pd.DataFrame, table: pd.DataFrame, params: SplitParams) -> tuple[float, str | None]:
    """Measure the imbalance of an assignment; under `grouped` advise a better seed, if any."""
    from segops.data import assignment

    grouped = params.protocol == "grouped"
    unit_id = manifest["group_id" if grouped else "image_id"]
    fractions = params.fractions if grouped else assignment.PUBLISHED_FRACTIONS
    units, images_GK = assignment.strata(manifest, unit_id)
    gap = float(assignment.imbalance(assignment.subset_index(table, unit_id, units), images_GK, fractions)[0])
    if not grouped:
        return gap, None
    best = assignment.best_seed(units, images_GK, fractions)
    empty = [name for name in SUBSETS if name not in set(table["subset"])]
    if empty:
        mend = f"set split.seed: {best[0]}" if best else "add groups, or make split.fractions more even"
        raise UserError(f"split.seed {params.seed} leaves {' and '.join(empty)} empty ({len(units)} groups); {mend}")
    if best is None or gap - best[1] < _CLEARLY:
        return gap, None
    return gap, (
        f"split.seed: {best[0]} balances the strata better (largest gap {best[1]:.2f} instead of {gap:.2f}); "
        "set it before the first model is promoted, then keep it"
    )


def summarize(
    manifest: pd.DataFrame,
    table: pd.DataFrame,
    params: SplitParams,
    manifest_sha256: str,
    gap: float,
    advice: str | None,
) -> Split:
    """Describe an assignment whose rows are the manifest's rows."""
    from segops.data.manifest import assignment_sha256

    subsets_of = table.groupby("group_id")["subset"].agg(set)
    with_train = table["group_id"].map(lambda group: "train" in subsets_of[group])
    sharing: dict[Literal["val", "test"], int] = {
        "val": int((with_train & (table["subset"] == "val")).sum()),
        "test": int((with_train & (table["subset"] == "test")).sum()),
    }
    subsets = {name: _subset(manifest[(table["subset"] == name).to_numpy()]) for name in SUBSETS}
    return Split(
        protocol=params.protocol,
        seed=params.seed,
        folds=params.folds,
        fold=params.fold,
        manifest_sha256=manifest_sha256,
        assignment_sha256=assignment_sha256(table),
        subsets=subsets,
        groups_on_two_sides=int((subsets_of.map(len) > 1).sum()),
        images_sharing_a_group_with_train=sharing,
        imbalance=round(gap, 6),
        advice=advice,
        few_groups=few_groups(
            {name: summary.groups for name, summary in subsets.items()}, manifest["group_id"].nunique()
        ),
    )


def few_groups(groups: Mapping[Subset, int], every: int) -> str | None:
    """Word a warning that val or test has too few groups for a decision, and what to do; None where both have enough.

    Args:
        groups: by subset.
        every: groups in all.
    """
    few = [name for name in SUBSETS[1:] if groups[name] < FEWEST_GROUPS]
    if not few:
        return None
    counts = " and ".join(f"{name} has {counted(groups[name], 'group')}" for name in few)
    share = FEWEST_GROUPS / every
    if share <= _LARGEST_SHARE:
        subset = "each" if len(few) > 1 else few[0]
        mend = f"give {subset} at least {share:.2f} in split.fractions (or a little more, since groups fall by chance)"
    else:
        mend = f"{every} groups in all are too few to hold out {FEWEST_GROUPS} twice: collect more groups"
    return (
        f"{counts}: intervals on fewer than {FEWEST_GROUPS} groups are wide, there is none on 1, and the gate doesn't "
        f"judge (promote.min_groups); {mend}, or cross-validate (cross_validation: scores or ensemble, by "
        "split.folds), which scores every image outside test"
    )


def _subset(rows: pd.DataFrame) -> SubsetSummary:
    """Describe the images of a subset: counts, modalities, foreground, hash."""
    from segops.data.manifest import subset_sha256

    return SubsetSummary(
        images=len(rows),
        groups=rows["group_id"].nunique(),
        modalities={str(name): int(count) for name, count in rows["modality"].value_counts().sort_index().items()},
        mean_foreground=round(float(rows["foreground_fraction"].mean()), 6),
        sha256=subset_sha256(rows),
    )


def _say_split(result: Split) -> None:
    """Print the counts, the imbalance and the warnings of a split."""
    counts = ", ".join(f"{name} {result.subsets[name].images}" for name in SUBSETS)
    note(f"split: {result.protocol}, images: {counts}; largest gap of a stratum {result.imbalance:.2f}")
    if result.groups_on_two_sides:
        test, shared = result.subsets["test"].images, result.images_sharing_a_group_with_train["test"]
        say(
            f"split: {result.groups_on_two_sides} groups are on two sides, {shared} of {test} test images share a "
            "group with a training image: scores on test are too high; split.protocol: grouped avoids it"
        )
    if result.advice:
        say(f"split: {result.advice}")
    if result.few_groups:
        say(f"split: {result.few_groups}")


def _say_joined(about: Dataset, table: pd.DataFrame, params: SplitParams) -> None:
    """Print a line for each joined group with images that were in another subset before the groups were joined."""
    from segops.data.assignment import subset_by_name

    subset_of = dict(zip(table["group_id"], table["subset"], strict=True))
    for group, others in about.joined_groups.items():
        subsets = {name: subset_by_name(name, params) for name in [group, *others]}
        if set(subsets.values()) != {subset_of[group]}:
            named = ", ".join(f"'{name}' ({where})" for name, where in subsets.items())
            say(
                f"split: group '{group}' has images of {named}, which new images show to be one group: all of it "
                f"stands in {subset_of[group]}"
            )
