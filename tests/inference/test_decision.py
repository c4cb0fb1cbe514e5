"""What is chosen on validation: the rule, the threshold, the cleaning. Test images are never asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from segops.contracts.prepared import Prepared
from segops.data.arrays import PreparedData
from segops.data.flat_files import IMAGES, MASKS
from segops.errors import UserError
from segops.evaluation.mask_rule import Decision, choose_rule, cleanings, decide
from segops.inference.cleaning import clean_mask
from segops.inference.predict import Predictor
from segops.params.evaluate import EvaluateParams
from segops.params.inference import CleaningParams, PostprocessParams
from segops.params.runtime import RuntimeParams
from segops.stages.evaluate import evaluate
from tests.support.small_models import brightness_params, brightness_program, save_candidate, trained_model
from tests.support.tiny_prepared import name_pixels_anew, write_prepared

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


def test_the_search_tries_openings_holes_and_small_objects_the_mildest_first() -> None:
    tried = [(one.open_px, one.fill_holes_px, one.remove_small_px) for one in cleanings(CleaningParams())]
    assert tried == [(opening, holes, small) for opening in (0, 1, 2) for holes in (0, 64) for small in (0, 16, 64)]


class Patterned:
    """Sure of four fifths of the foreground, unsure (0.3) of the rest and of a tenth of the background."""

    def __init__(self, data: PreparedData, *, ensemble: bool = False) -> None:
        self.model = SimpleNamespace(ensemble=ensemble)
        self.asked: list[tuple[int, int]] = []
        self._data = data
        self._rows = {data.image(row).tobytes(): row for row in range(len(data.index))}
        self._fold = -2

    def validating(self, fold: int) -> Patterned:
        self._fold = fold
        return self

    def probability(self, image_HWC: np.ndarray, _: object = None) -> np.ndarray:
        row = self._rows[image_HWC.tobytes()]
        self.asked.append((row, self._fold))
        truth_HW = self._data.mask(row) > 0
        y, x = np.indices(truth_HW.shape)
        sure_HW, unsure_HW = truth_HW & ((x + y) % 5 != 0), ~truth_HW & ((x + 7 * y) % 10 == 0)
        return np.where(sure_HW, 0.9, np.where(truth_HW | unsure_HW, 0.3, 0.1)).astype(np.float32)[None]


def test_roc_and_pr_weigh_misses_and_false_alarms_each_in_its_way(tmp_path: Path) -> None:
    """All foreground for a tenth of the far larger background: Youden 0.9 against 0.8, F1 about 0.8 against 0.89."""
    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    patterned = cast(Predictor, Patterned(data))
    chosen = {rule: choose_rule(patterned, data, PostprocessParams(threshold=rule)) for rule in ("roc", "pr")}
    (roc, roc_at, _), (pr, pr_at, _) = chosen["roc"], chosen["pr"]
    assert (roc, pr) == ("roc", "pr")
    assert roc_at is not None
    assert pr_at is not None
    assert 0.1 <= roc_at < 0.3 <= pr_at < 0.9


def test_several_classes_take_the_likeliest(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared", classes=3))
    assert choose_rule(cast(Predictor, Patterned(data)), data, PostprocessParams()) == ("argmax", None, None)


def test_an_ensemble_of_folds_is_judged_on_all_images_but_test_each_out_of_fold(tmp_path: Path) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    for ensemble, rows in ((False, data.rows("val")), (True, sorted(data.rows("train") + data.rows("val")))):
        asked = Patterned(data, ensemble=ensemble)
        found = decide(cast(Predictor, asked), data, PostprocessParams(threshold=0.5, fill_holes_px=1))
        assert asked.asked == [(row, data.fold(row)) for row in rows]
        truths = [data.mask(row) > 0 for row in rows]
        sure = [truth_HW & (np.indices(truth_HW.shape).sum(axis=0) % 5 != 0) for truth_HW in truths]
        # Each has 0 false positives; holes of one pixel are filled by the cleaning.
        dices = [
            2 * kept.sum() / (kept.sum() + truth.sum())
            for kept, truth in (
                (clean_mask(mask, found.cleaning) > 0, truth) for mask, truth in zip(sure, truths, strict=True)
            )
        ]
        assert found.val_dice == round(float(np.mean(dices)), 9)


def test_without_foreground_on_validation_nothing_can_be_chosen(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    data = PreparedData.open(prepared)
    with (prepared / MASKS).open("r+b") as file:
        masks = np.memmap(file, np.uint8, "r+")
        for row in data.rows("val"):
            at = data.index.iloc[row]
            begin = int(at["mask_offset"])
            masks[begin : begin + int(at["height"]) * int(at["width"])] = 0
        masks.flush()
    name_pixels_anew(prepared)
    for rule in (0.5, "otsu"):
        with pytest.raises(UserError, match="foreground"):
            decided(PreparedData.open(prepared), threshold=rule)
