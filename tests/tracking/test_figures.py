"""Curves of a candidate as figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from segops.contracts.tables import history_columns
from segops.tracking.figures import figures


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


def test_each_curve_is_a_figure_with_its_axes_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = dict(figures(*folders, "small"))
    assert list(made) == ["history", "pr", "roc", "threshold", "reliability"]
    for name, figure in made.items():
        assert figure.axes[0].get_title() == "small"
        assert figure.axes[0].get_xlabel()
        figure.savefig(tmp_path / f"{name}.png")
    (precision_recall,) = made["pr"].axes[0].get_lines()
    assert list(precision_recall.get_xdata()) == [0.5, 1.0]  # type: ignore[arg-type]
    bins = made["reliability"].axes[0].get_lines()[1]
    assert list(bins.get_xdata()) == [0.25]  # type: ignore[arg-type]  # the empty bin has no dot


def test_what_has_no_rows_has_no_figure(folders: tuple[Path, Path]) -> None:
    """A test set without foreground has no precision-recall curve; a report may lack a table."""
    model, report = folders
    (report / "curves" / "pr.csv").write_text("recall,precision,threshold\n")
    (report / "curves" / "roc.csv").unlink()
    assert [name for name, _ in figures(model, report, "small")] == ["history", "threshold", "reliability"]
