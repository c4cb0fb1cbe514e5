"""Which images have a class, and how often it is seen where it isn't."""

from __future__ import annotations

import pandas as pd

from segops.evaluation.presence import false_positive_share, in_prediction, in_truth


def test_foreground_is_there_where_a_pixel_of_it_is() -> None:
    table = pd.DataFrame(
        {"true_positive": [0, 1, 0, 0], "false_negative": [0, 0, 1, 0], "false_positive": [0, 0, 0, 1]}
    )
    assert in_truth(table).tolist() == [False, True, True, False]
    assert in_prediction(table).tolist() == [False, True, False, True]


def test_the_share_of_false_positives_is_of_images_without_foreground_and_has_nine_decimals() -> None:
    table = pd.DataFrame({"true_positive": [0, 0, 0, 5], "false_negative": [0] * 4, "false_positive": [0, 3, 0, 9]})
    table["true_negative"] = 7
    assert false_positive_share(table) == 0.333333333
    assert false_positive_share(table[3:]) is None
