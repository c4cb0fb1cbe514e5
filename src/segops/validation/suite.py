"""Run the expectations on a manifest with Great Expectations."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from segops.contracts.validation import Expectation
from segops.data.images import OWN_UNITS
from segops.params.validate import ValidateParams
from segops.validation.checks import Check, checks

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
    table["groups_of_image"] = table.groupby("image_sha256")["group_id"].transform("nunique")
    table["group_share"] = table.groupby("group_id")["image_id"].transform("size") / len(table)
    shown = table["classes"].str.split()
    for index in range(len(classes)):
        table[f"has_class_{index}"] = [int(str(index) in indices) for indices in shown]
    return table


def run(manifest: pd.DataFrame, params: ValidateParams, classes: Sequence[str]) -> list[tuple[Check, Expectation]]:
    """Validate a manifest (MANIFEST_COLUMNS) and return each check with how it came out."""
    asked = checks(params, classes)
    results = _results(derived(manifest, params, classes), asked)
    return [(check, _outcome(check, results[check.name], len(manifest))) for check in asked]


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


def _outcome(check: Check, result: dict[str, Any], images: int) -> Expectation:
    """Turn one result into an outcome that says what was expected, what was seen and which images fail."""
    failing = {str(row["image_id"]): row for row in result.get("unexpected_index_list") or []}
    if "observed_value" in result:
        seen = f"{result['observed_value']:.6g}"
    elif failing:
        seen = f"otherwise in {len(failing)} of {images} images: {_examples(failing)}"
    else:
        seen = f"so in all {images} images"
    return Expectation(
        name=check.name,
        severity=check.severity,
        success=result["success"],
        detail=f"expected: {check.expected}; seen: {seen}",
        failing_ids=[] if result["success"] else sorted(failing),
    )


def _examples(failing: dict[str, dict[str, Any]]) -> str:
    """Name the first few failing images with their values."""
    shown = []
    for image_id in sorted(failing)[:_SHOWN]:
        values = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in _values(failing[image_id])]
        shown.append(f"{image_id} ({', '.join(values)})")
    return ", ".join(shown) + (", ..." if len(failing) > _SHOWN else "")


def _values(row: dict[str, Any]) -> list[Any]:
    """List a failing row's values without its image id; texts, such as hashes, are cut to 12 characters."""
    return [value[:12] if isinstance(value, str) else value for name, value in row.items() if name != "image_id"]
