"""Run the expectations on a manifest with Great Expectations."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from segops.contracts.validation import Expectation
from segops.contracts.volumes import SPACING_COLUMNS
from segops.data.images import OWN_UNITS
from segops.params.validate import ValidateParams
from segops.progress import counted
from segops.validation.check import Check
from segops.validation.checks import checks
from segops.validation.pixels import OWN

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 3  # failing images that are named in the detail of an expectation


def derived(manifest: pd.DataFrame, params: ValidateParams, classes: Sequence[str]) -> pd.DataFrame:
    """Copy the manifest and add the columns that only expectations need."""
    table = manifest.copy()
    filled = table["foreground_fraction"] > 0
    usual = filled | (not params.allow_empty_masks)
    if params.allow_full_masks:
        usual &= table["foreground_fraction"] < 1
    table["usual_foreground_fraction"] = table["foreground_fraction"].where(usual)
    own_units = table["dtype"].isin(OWN_UNITS)
    for name in ("intensity_min", "intensity_max"):
        table[f"scaled_{name}"] = table[name].mask(own_units)
    table["filled_mask_sha256"] = table["mask_sha256"].where(filled)
    table["image_size"] = table["height"].astype(str) + "x" + table["width"].astype(str)
    table["mask_size"] = table["mask_height"].astype(str) + "x" + table["mask_width"].astype(str)
    spacing_mm = table[list(SPACING_COLUMNS)]
    table["smallest_spacing_mm"] = spacing_mm.min(axis=1, skipna=False)
    table["largest_spacing_mm"] = spacing_mm.max(axis=1, skipna=False)
    table["groups_of_image"] = table.groupby("image_sha256")["group_id"].transform("nunique")
    table["group_share"] = table.groupby("group_id")["image_id"].transform("size") / len(table)
    shown = table["classes"].str.split()
    for index in range(len(classes)):
        table[f"has_class_{index}"] = [int(str(index) in indices) for indices in shown]
    return table


def run(
    manifest: pd.DataFrame, params: ValidateParams, classes: Sequence[str], pixels: pd.DataFrame | None = None
) -> list[tuple[Check, Expectation]]:
    """Validate a manifest (MANIFEST_COLUMNS) and return each check with how it came out.

    Args:
        pixels: what a sample's pixels show, the table of `validation.pixels.Pixels`; without it that isn't checked.
    """
    masks = pixels is not None and bool(pixels["fitting_mask"].notna().any())
    volumes = bool((manifest["depth"] > 1).any())
    asked = checks(params, classes, volumes=volumes, looked=pixels is not None, masks=masks)
    table = derived(manifest, params, classes)
    if pixels is not None:
        table = table.merge(_sampled(pixels, params), on="image_id", how="left")
    results = _results(table, asked)
    return [(check, _outcome(check, results[check.name], table)) for check in asked]


def _sampled(pixels: pd.DataFrame, params: ValidateParams) -> pd.DataFrame:
    """Add what only expectations need: misplaced masks as long as they are few."""
    few = (pixels["fitting_mask"].dropna() != OWN).mean() <= params.max_misplaced_masks
    return pixels.assign(rarely_fitting_mask=pixels["fitting_mask"] if few else None)


def _results(table: pd.DataFrame, asked: Sequence[Check]) -> dict[str, dict[str, Any]]:
    """Run the checks with Great Expectations and return its results as plain dicts, by check name."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read on import
    # Before the import, which says much where the root logger is at INFO, as in a step of Kubeflow.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    expectations = [
        getattr(gx.expectations, check.kind)(**check.arguments, severity=check.severity, meta={"name": check.name})
        for check in asked
    ]
    outcome = context.data_sources.pandas_default.read_dataframe(table).validate(
        gx.ExpectationSuite(name="manifest", expectations=expectations),
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["image_id"]},
    )
    results = {}
    for result in outcome.results:
        if result.exception_info["raised_exception"]:
            raise RuntimeError(
                f"{result.expectation_config.meta['name']}: {result.exception_info['exception_message']}"
            )
        results[result.expectation_config.meta["name"]] = {"success": bool(result.success), **result.result}
    return results


def _outcome(check: Check, result: dict[str, Any], table: pd.DataFrame) -> Expectation:
    """Turn one result into an outcome that says what was expected, what was seen and which images fail."""
    failing = {str(row["image_id"]): _values(row) for row in result.get("unexpected_index_list") or []}
    evidence = {image_id: check.tells.format(*failing[image_id]) for image_id in sorted(failing) if check.tells}
    judged = result.get("element_count", len(table)) - result.get("missing_count", 0)
    if failing:
        of = f"{len(failing)} of {counted(judged, check.noun)}"
        seen = f"otherwise in {of}: {_examples(failing, evidence)}"
    elif not judged:
        seen = "none to judge"
    elif check.seen is not None:
        seen = check.seen(table)
    elif "observed_value" in result:
        seen = f"{result['observed_value']:.6g}"
    else:
        seen = f"so in {'the' if judged == 1 else 'all'} {counted(judged, check.noun)}"
    return Expectation(
        name=check.name,
        severity=check.severity,
        success=result["success"],
        detail=f"expected: {check.expected}; seen: {seen}",
        failing_ids=[] if result["success"] else sorted(failing),
        evidence={} if result["success"] else evidence,
    )


def _examples(failing: dict[str, list[Any]], evidence: dict[str, str]) -> str:
    """Name the first few failing images with their values; texts, such as hashes, are cut to 12 characters."""
    shown = []
    for image_id in sorted(failing)[:_SHOWN]:
        values = (f"{value:.6g}" if isinstance(value, float) else str(value)[:12] for value in failing[image_id])
        shown.append(f"{image_id} ({evidence.get(image_id) or ', '.join(values)})")
    return ", ".join(shown) + (", ..." if len(failing) > _SHOWN else "")


def _values(row: dict[str, Any]) -> list[Any]:
    """List a failing row's values without its image id."""
    return [value for name, value in row.items() if name != "image_id"]
