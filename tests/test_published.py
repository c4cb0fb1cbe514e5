"""The published evaluation equals scikit-learn's scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from segops.evaluation.published import PUBLISHED_SIZE, image_published_scores, published_mean, published_truth
from segops.scores import PublishedScores

SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), SHARES, SHARES)
def test_scores_are_scikit_learns_with_undefined_counted_zero(seed: int, truth_share: float, share: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((16, 16)) < truth_share
    probability = np.where(random.random((16, 16)) < share, 0.9, 0.1).astype(np.float32)
    scores = image_published_scores(truth, probability)
    true, predicted = truth.ravel(), probability.ravel() > 0.5
    assert scores.accuracy == pytest.approx(accuracy_score(true, predicted))
    for name, sklearn_score in (
        ("f1", f1_score),
        ("jaccard", jaccard_score),
        ("recall", recall_score),
        ("precision", precision_score),
    ):
        assert getattr(scores, name) == pytest.approx(sklearn_score(true, predicted, zero_division=0)), name


def test_empty_on_empty_scores_zero_but_for_accuracy() -> None:
    scores = image_published_scores(np.zeros((4, 4), bool), np.zeros((4, 4), np.float32))
    assert scores == PublishedScores(accuracy=1, f1=0, jaccard=0, recall=0, precision=0)


def test_a_probability_of_exactly_a_half_is_background() -> None:
    scores = image_published_scores(np.zeros((4, 4), bool), np.full((4, 4), 0.5, np.float32))
    assert scores.accuracy == 1


def test_truth_is_resized_without_antialiasing_at_half_pixel_centres() -> None:
    # 512 to 256 puts each sample between two pixels: the mean of thin stripes is 0.5, which is background.
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 1
    assert not published_truth(stripes).any()
    # 768 to 256 samples every third pixel, the middle one; antialiasing would give 1/3 everywhere.
    stripes = np.zeros((768, 768), np.uint8)
    stripes[:, 1::3] = 2
    assert published_truth(stripes).all()
    assert published_truth(stripes).shape == PUBLISHED_SIZE


def test_truth_at_the_published_size_stays() -> None:
    truth = np.random.default_rng(0).random((256, 256)) > 0.6
    assert np.array_equal(published_truth(truth.astype(np.uint8)), truth)


def test_the_mean_is_over_images() -> None:
    one = PublishedScores(accuracy=1, f1=0.5, jaccard=0.25, recall=1, precision=0)
    two = PublishedScores(accuracy=0.5, f1=0.5, jaccard=0.75, recall=0, precision=0)
    assert published_mean([one, two]) == PublishedScores(accuracy=0.75, f1=0.5, jaccard=0.5, recall=0.5, precision=0)
