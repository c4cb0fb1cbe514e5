"""A candidate's charts for its run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from segops.reports.charts.candidate import (
    curves_chart,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    draw_threshold,
)


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """A report's folder with every curve."""
    folder = tmp_path / "curves"
    folder.mkdir()
    for name, text in {
        "pr": "recall,precision,threshold\n0.5,0.75,0.5\n1.0,0.25,0.1\n",
        "roc": "false_positive_rate,true_positive_rate,threshold\n0,0,1\n1,1,0\n",
        "threshold": "threshold,val_dice\n0.25,0.5\n0.75,0.6\n",
        "reliability": "subset,low,high,pixels,confidence,frequency\nval,0,0.5,9,0.25,0.125\nval,0.5,1,0,,\n",
    }.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_the_curves_are_one_picture_and_equal_tables_give_equal_bytes(curves: Path) -> None:
    drawn = curves_chart(curves)
    assert drawn is not None
    assert drawn == curves_chart(curves)
    with Image.open(io.BytesIO(drawn)) as picture:
        four = picture.size
    (curves / "pr.csv").write_text("recall,precision,threshold\n")  # a test set without foreground
    (curves / "roc.csv").unlink()
    two = curves_chart(curves)
    assert two is not None
    with Image.open(io.BytesIO(two)) as picture:
        assert picture.size == (four[0], four[1] // 2)


def test_without_a_table_there_is_no_picture(tmp_path: Path) -> None:
    assert curves_chart(tmp_path) is None


@pytest.mark.parametrize(
    ("draw", "file"),
    [
        (draw_precision_recall, "pr"),
        (draw_roc, "roc"),
        (draw_threshold, "threshold"),
        (draw_reliability, "reliability"),
    ],
)
def test_each_curve_has_its_axes_named(draw: Callable[[Axes, pd.DataFrame], None], file: str, curves: Path) -> None:
    axes = Figure().add_subplot()
    draw(axes, pd.read_csv(curves / f"{file}.csv"))
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_curves_go_through_their_tables_points_and_an_empty_bin_has_no_dot(curves: Path) -> None:
    axes = Figure().add_subplot()
    draw_precision_recall(axes, pd.read_csv(curves / "pr.csv"))
    (precision_recall,) = axes.get_lines()
    assert list(precision_recall.get_xdata()) == [0.5, 1.0]  # type: ignore[arg-type]
    axes = Figure().add_subplot()
    draw_reliability(axes, pd.read_csv(curves / "reliability.csv"))
    bins = axes.get_lines()[1]
    assert list(bins.get_xdata()) == [0.25]  # type: ignore[arg-type]
