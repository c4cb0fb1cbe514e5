"""The published evaluation equals scikit-learn's scores."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from segops.contracts.scores import PublishedScores
from segops.evaluation import published
from segops.evaluation.published import PUBLISHED_SIZE, image_published_scores, published_mean, published_truth

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
    # 512 to 256 puts each sample between four pixels: of thin stripes half is foreground, 127.5, which 8 bits round up.
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 1
    assert published_truth(stripes).all()
    stripes[::2] = 0
    assert not published_truth(stripes).any()  # one pixel of four
    # 768 to 256 samples every third pixel, the middle one; antialiasing would give 1/3 everywhere.
    stripes = np.zeros((768, 768), np.uint8)
    stripes[:, 1::3] = 2
    assert published_truth(stripes).all()
    assert published_truth(stripes).shape == PUBLISHED_SIZE


def test_weights_are_eleven_bit_and_sums_lose_their_last_bits_as_opencvs_do() -> None:
    # From 3 to 4 columns the samples lie at -0.125, 0.625, 1.375 and 2.125: 0, 0.625 * 255 = 159.375, the same, 0.
    # From 2 to 4 rows at -0.25, 0.25, 0.75 and 1.25: 3/4 * 159.375 + 1/4 * 95.625 = 143.4, and 0.25 * 255 = 63.75.
    grey = np.array([[0, 255, 0], [255, 0, 255]])
    expected = [[0, 159, 159, 0], [64, 143, 143, 64], [191, 111, 111, 191], [255, 95, 95, 255]]
    assert published._resized(grey, (4, 4)).tolist() == expected


@pytest.mark.parametrize(
    ("size", "foreground", "digest"),
    [
        ((512, 512), 37609, "d8217dc32c4e4073"),
        ((1024, 1024), 37569, "d612cbd8c6287d9f"),
        ((520, 696), 26824, "980500360c441bf6"),
        ((256, 320), 27927, "b1cc6fc12bcb7070"),
        ((360, 360), 27258, "515c80c2683242de"),
        ((100, 100), 27142, "f9402a0796fe8430"),
        ((33, 57), 26438, "64c34f4f2f174449"),
    ],
)
def test_truth_is_that_of_the_published_procedure(size: tuple[int, int], foreground: int, digest: str) -> None:
    """Recorded from `cv2.resize(mask, (256, 256)) / 255.0 > 0.5` of opencv-python-headless 5.0.0.93."""
    y, x = np.mgrid[: size[0], : size[1]]
    truth = published_truth((7 * y * y + 3 * x * y + 11 * x) % 13 < 6)
    assert truth.sum() == foreground
    assert hashlib.sha256(np.packbits(truth).tobytes()).hexdigest()[:16] == digest


def test_truth_at_the_published_size_stays() -> None:
    truth = np.random.default_rng(0).random((256, 256)) > 0.6
    assert np.array_equal(published_truth(truth.astype(np.uint8)), truth)


def test_the_mean_is_over_images() -> None:
    one = PublishedScores(accuracy=1, f1=0.5, jaccard=0.25, recall=1, precision=0)
    two = PublishedScores(accuracy=0.5, f1=0.5, jaccard=0.75, recall=0, precision=0)
    assert published_mean([one, two]) == PublishedScores(accuracy=0.75, f1=0.5, jaccard=0.5, recall=0.5, precision=0)
