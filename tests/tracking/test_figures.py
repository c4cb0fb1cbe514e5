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

from segops.contracts.evaluation import Evaluation
from segops.contracts.tables import history_columns
from segops.reports.charts.candidate import (
    candidate_charts,
    draw_history,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    draw_threshold,
)
from tests.support.judged_candidates import write_report
from tests.support.small_models import trained_model


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model with two epochs, and a report with every curve."""
    model, report = tmp_path / "model", tmp_path / "report"
    (report / "curves").mkdir(parents=True)
    model.mkdir()
    pd.DataFrame([[1, 1e-3, 1, 2, 0.2, 0.1, 0.5, 0.5], [2, 1e-3, 0.5, 1, 0.4, 0.2, 0.5, 0.5]]).to_csv(
        model / "history.csv", header=history_columns(), index=False
    )
    for name, text in {
        "pr": "recall,precision,threshold\n0.5,0.75,0.5\n1.0,0.25,0.1\n",
        "roc": "false_positive_rate,true_positive_rate,threshold\n0,0,1\n1,1,0\n",
        "threshold": "threshold,val_dice\n0.25,0.5\n0.75,0.6\n",
        "reliability": "subset,low,high,pixels,confidence,frequency\nval,0,0.5,9,0.25,0.125\nval,0.5,1,0,,\n",
    }.items():
        (report / "curves" / f"{name}.csv").write_text(text)
    return model, report


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """The evaluation of two images of each subset."""
    return write_report(tmp_path / "scored", trained_model(), val=[0.5, 0.6], test=[0.5, 0.7], modalities=["a", "b"])


def test_each_curve_is_a_picture_with_the_candidates_name(folders: tuple[Path, Path], evaluation: Evaluation) -> None:
    drawn = {(family, name): content for family, name, content in candidate_charts(*folders, evaluation)}
    curves = [("curves", name) for name in ("history", "pr", "roc", "threshold", "reliability")]
    assert list(drawn) == [("confusion", "val"), ("confusion", "test"), *curves]
    assert drawn == {(family, name): content for family, name, content in candidate_charts(*folders, evaluation)}
    for content in drawn.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("draw", "file"),
    [
        (draw_history, "model/history"),
        (draw_precision_recall, "report/curves/pr"),
        (draw_roc, "report/curves/roc"),
        (draw_threshold, "report/curves/threshold"),
        (draw_reliability, "report/curves/reliability"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_each_curve_has_its_axes_named(draw: Callable[[Axes, pd.DataFrame], None], file: str, tmp_path: Path) -> None:
    axes = Figure().add_subplot()
    draw(axes, pd.read_csv(tmp_path / f"{file}.csv"))
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_curves_go_through_their_tables_points_and_an_empty_bin_has_no_dot(folders: tuple[Path, Path]) -> None:
    curves = folders[1] / "curves"
    axes = Figure().add_subplot()
    draw_precision_recall(axes, pd.read_csv(curves / "pr.csv"))
    (precision_recall,) = axes.get_lines()
    assert list(precision_recall.get_xdata()) == [0.5, 1.0]  # type: ignore[arg-type]
    axes = Figure().add_subplot()
    draw_reliability(axes, pd.read_csv(curves / "reliability.csv"))
    bins = axes.get_lines()[1]
    assert list(bins.get_xdata()) == [0.25]  # type: ignore[arg-type]


def test_what_has_no_rows_has_no_figure(folders: tuple[Path, Path], evaluation: Evaluation) -> None:
    """A test set without foreground has no precision-recall curve; a report may lack a table."""
    model, report = folders
    (report / "curves" / "pr.csv").write_text("recall,precision,threshold\n")
    (report / "curves" / "roc.csv").unlink()
    charts = candidate_charts(model, report, evaluation)
    assert [name for family, name, _ in charts if family == "curves"] == ["history", "threshold", "reliability"]
