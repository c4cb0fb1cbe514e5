"""Which images the gallery shows, and the page itself."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from segops.pictures.choice import choose_examples, choose_shared
from segops.reports.gallery import Example, explanation, triptych

TWO = ["#000000", "#e69f00"]


def example(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> Example:
    """An example that is sure of its prediction and looked nowhere."""
    return Example({}, image, truth, predicted, predicted.astype(np.float32), np.zeros(truth.shape, np.float32), TWO)


def table(dice: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"i{number}" for number in range(len(dice))], "dice": dice})


def test_worst_median_and_best_are_chosen_by_dice() -> None:
    dice = [0.9, 0.1, 0.5, 0.8, 0.2, 0.4, 0.6, 0.3, 0.7]
    # In order: i1 i4 i7 | i5 i2 i6 | i8 i3 i0
    assert choose_examples(table(dice), 3) == {
        "Worst": ["i1", "i4", "i7"],
        "Median": ["i5", "i2", "i6"],
        "Best": ["i0", "i3", "i8"],
    }
    assert choose_examples(table(dice), 1) == {"Worst": ["i1"], "Median": ["i2"], "Best": ["i0"]}


def test_few_images_are_shown_once() -> None:
    assert choose_examples(table([0.5]), 6) == {"Worst": ["i0"], "Median": [], "Best": []}
    assert choose_examples(table([0.5, 0.1]), 6) == {"Worst": ["i1"], "Median": [], "Best": ["i0"]}


def test_shared_images_do_not_depend_on_scores_and_groups_take_turns() -> None:
    names = [f"i{number}" for number in range(6)]
    rows = pd.DataFrame({"image_id": names, "group_id": ["g"] * 4 + ["h", "k"], "dice": [0.1, 0.9, 0.5, 0.3, 0.2, 0.4]})
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    first_of_g = next(name for name in order if name in names[:4])
    chosen = choose_shared(rows, 3)
    assert sorted(chosen) == sorted([first_of_g, "i4", "i5"])
    assert choose_shared(rows.assign(dice=0.0).sample(frac=1, random_state=0), 3) == chosen
    assert len(choose_shared(rows, 50)) == 6


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=40), st.integers(1, 8))
def test_no_image_is_shown_twice_and_sections_do_not_mix(dice: list[float], each: int) -> None:
    rows = table(dice)
    chosen = choose_examples(rows, each)
    shown = [one for ids in chosen.values() for one in ids]
    assert len(shown) == len(set(shown)) == min(3 * each, max(len(dice) // 3 * 3, min(len(dice), 2)))
    score = rows.set_index("image_id")["dice"]
    ends = [score[ids] for ids in chosen.values() if ids]
    for lower, upper in itertools.pairwise(ends):
        assert lower.max() <= upper.min()


def test_a_triptych_is_image_truth_and_prediction_at_native_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    truth, predicted = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    shown = triptych(example(image, truth, predicted))
    assert shown.shape == (20, 98, 3)
    assert np.array_equal(shown[:, :30], image)
    assert (shown[:, 34:64] == 0).all()
    assert (shown[:, 68:] == 255).all()


def test_a_large_triptych_is_scaled_down() -> None:
    image, mask = np.zeros((4096, 1000, 1), np.uint16), np.zeros((4096, 1000), np.uint8)
    assert triptych(example(image, mask, mask)).shape == (1024, 3 * 250 + 8, 3)
    assert explanation(example(image, mask, mask), explained=True).shape == (1024, 2 * 250 + 4, 3)


def test_an_explanation_is_confidence_and_gradcam_side_by_side() -> None:
    image, mask = np.full((20, 30, 1), 255, np.uint8), np.zeros((20, 30), np.uint8)
    mask[:10] = 1
    shown = explanation(example(image, mask, mask), explained=True)
    assert shown.shape == (20, 64, 3)
    assert (shown[:10, :30] == (253, 231, 37)).all()  # viridis at 1
    assert (shown[10:, :30] == (68, 1, 84)).all()  # and at 0
    assert explanation(example(image, mask, mask), explained=False).shape == (20, 30, 3)
    # White under 65 % of viridis at 0.
    assert (shown[:, 34:] == np.round(0.35 * 255 + 0.65 * np.array([68, 1, 84]))).all()
