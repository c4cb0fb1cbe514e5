"""What is chosen on validation: the rule, the threshold, the cleaning. Test images are never asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segops.contracts import Prepared
from segops.data.arrays import IMAGES, PreparedData
from segops.evaluation.decision import Decision, cleanings, decide
from segops.inference.predict import Predictor
from segops.params.evaluate import EvaluateParams
from segops.params.inference import CleaningParams, PostprocessParams
from segops.params.runtime import RuntimeParams
from segops.stages.evaluate import evaluate
from tests.small_models import brightness_params, brightness_program, save_candidate, trained_model
from tests.tiny_prepared import name_pixels_anew, write_prepared

NATIVE: dict[str, Any] = {"resize": "none"}


def write_speckled(folder: Path, *subsets: str, hole: bool = False) -> PreparedData:
    """Discs, and in images of these subsets a bright square of 3x3 pixels far from the disc, and a hole in the disc."""
    data = PreparedData.open(write_prepared(folder))
    with (folder / IMAGES).open("r+b") as file:
        pixels = np.memmap(file, np.uint8, "r+")
        for row in (row for subset in subsets for row in data.rows(subset)):  # type: ignore[arg-type]
            at = data.index.iloc[row]
            begin, shape = int(at["image_offset"]), (int(at["height"]), int(at["width"]), 3)
            image_HWC = pixels[begin : begin + int(np.prod(shape))].reshape(shape)
            far = data.mask(row)
            top, left = next(
                (r, c) for r, c in ((1, 1), (1, shape[1] - 4), (shape[0] - 4, 1)) if not far[r : r + 4, c : c + 4].any()
            )
            image_HWC[top : top + 3, left : left + 3] = 255
            if hole:
                row_px, column_px = (round(one) for one in np.argwhere(far).mean(axis=0))
                image_HWC[row_px, column_px] = 0
        pixels.flush()
    name_pixels_anew(folder)
    return PreparedData.open(folder)


def predictor(**model: Any) -> Predictor:
    params = brightness_params(**NATIVE).model_dump(mode="json")
    return Predictor(brightness_program(**NATIVE), trained_model(params=params, **model))


def decided(data: PreparedData, **given: Any) -> Decision:
    return decide(predictor(), data, PostprocessParams(**given))


def test_the_default_is_the_best_mean_dice_without_cleaning(tmp_path: Path) -> None:
    found = decided(write_speckled(tmp_path / "prepared"))
    assert (found.rule, found.cleaning, found.val_dice) == ("best_dice", CleaningParams(), 1.0)
    assert found.threshold == 0.5


@pytest.mark.parametrize(
    ("given", "rule"), [(0.3, "fixed"), ("otsu", "otsu"), ("roc", "roc"), ("pr", "pr"), ("best_dice", "best_dice")]
)
def test_each_rule_finds_bright_discs_and_knows_its_dice(tmp_path: Path, given: Any, rule: str) -> None:
    found = decided(write_speckled(tmp_path / "prepared"), threshold=given)
    assert found.rule == rule
    assert (found.threshold is None) == (rule == "otsu")
    assert given != 0.3 or found.threshold == 0.3
    assert found.val_dice == 1.0


def test_the_search_takes_the_mildest_cleaning_that_helps(tmp_path: Path) -> None:
    # Specks of 9 pixels: removing objects of up to 16 is enough, and opening by 2 would take the disc's border as well.
    found = decided(write_speckled(tmp_path / "prepared", "val"), search=True)
    assert found.cleaning == CleaningParams(remove_small_px=16)
    assert found.val_dice == 1.0
    assert decided(write_speckled(tmp_path / "clean"), search=True).cleaning == CleaningParams()
    both = decided(write_speckled(tmp_path / "both", "val", hole=True), search=True)
    assert both.cleaning == CleaningParams(fill_holes_px=64, remove_small_px=16)


def test_given_cleaning_is_applied_without_a_search(tmp_path: Path) -> None:
    data = write_speckled(tmp_path / "prepared", "val")
    assert decided(data).val_dice < 1
    kept = decided(data, largest_only=True)
    assert (kept.cleaning, kept.val_dice) == (CleaningParams(largest_only=True), 1.0)


def test_test_images_decide_nothing(tmp_path: Path) -> None:
    plain, speckled = write_speckled(tmp_path / "plain"), write_speckled(tmp_path / "speckled", "test", hole=True)
    for rule in ("best_dice", "roc", "pr"):
        assert decided(plain, threshold=rule, search=True) == decided(speckled, threshold=rule, search=True)


def test_the_search_keeps_what_it_does_not_try() -> None:
    given = CleaningParams(close_px=3, largest_only=True, remove_small_px=5)
    tried = cleanings(given)
    assert tried[0] == given
    assert len(tried) == len(set(tried)) == 1 + 3 * 2 * 3
    assert all((one.close_px, one.largest_only) == (3, True) for one in tried)
    assert len(cleanings(CleaningParams())) == 3 * 2 * 3


@pytest.mark.parametrize("rule", ["otsu", "best_dice"])
def test_evaluate_scores_the_masks_that_were_decided(tmp_path: Path, rule: str) -> None:
    data = write_speckled(tmp_path / "prepared", "val", "test", hole=True)
    found = decided(data, threshold=rule, search=True)
    save_candidate(
        tmp_path / "model",
        brightness_program(**NATIVE),
        brightness_params(**NATIVE),
        Prepared.load(tmp_path / "prepared"),
        **vars(found),
    )
    made = evaluate(
        EvaluateParams(gallery_images=1),
        RuntimeParams(threads=1, device="cpu"),
        prepared=tmp_path / "prepared",
        model=tmp_path / "model",
        report=tmp_path / "report",
    )
    assert made.val.dice.mean == pytest.approx(found.val_dice, abs=1e-9)
    assert made.test.dice.mean == 1
    page = (tmp_path / "report" / "gallery.html").read_text(encoding="utf-8")
    assert "Inference: fill_holes_px 64; remove_small_px 16." in page
    assert ("Otsu" in page) == (rule == "otsu")
