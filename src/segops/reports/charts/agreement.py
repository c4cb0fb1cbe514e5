"""How far predicted volumes agree with true ones: a plot after Bland and Altman (1986) for each class."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from segops.comparison.paired import HALVES, Half
from segops.comparison.verdict import SUBSETS
from segops.contracts.scores import Agreement
from segops.reports.charts.svg import ACCENT, SOFT, WARN, Tips, drawing

_COLOURS: dict[Half, str] = {"val": ACCENT, "test": WARN}
_SIZE_IN = (4.6, 3.3)


def agreement_plot(number: int, name: str, volumes: Mapping[Half, pd.DataFrame], test: Agreement) -> Markup:
    """Draw prediction minus truth over the mean of both, a dot a volume, with bias and limits of the test volumes.

    Args:
        number: of the class, in its page.
        name: the class.
        volumes: `image_id`, `truth_ml` and `predicted_ml` of each volume, by subset; those that both lack the class say
            nothing and aren't drawn.
        test: of the test volumes.
    """

    def draw(panels: list[Axes]) -> Tips:
        (axes,) = panels
        tips: dict[str, list[str]] = {}
        for subset in HALVES:
            either = volumes[subset].query("truth_ml > 0 or predicted_ml > 0")
            mean_ml = either[["truth_ml", "predicted_ml"]].mean(axis=1)
            difference_ml = either["predicted_ml"] - either["truth_ml"]
            axes.scatter(mean_ml, difference_ml, s=18, color=_COLOURS[subset], gid=subset, label=SUBSETS[subset])
            tips[subset] = [
                f"{row.image_id}: truth {row.truth_ml:.3f} ml, prediction {row.predicted_ml:.3f} ml"
                for row in either.itertuples()
            ]
        axes.axhline(0, color=SOFT, linewidth=0.8)
        for value, line in ((test.bias_ml, "-"), (test.low_ml, "--"), (test.high_ml, "--")):
            if value is not None:
                axes.axhline(value, color=WARN, linewidth=1, linestyle=line)
        axes.set(title=name, xlabel="mean of truth and prediction, ml", ylabel="prediction - truth, ml")
        axes.legend(fontsize=8)
        return tips

    label = f"Prediction minus truth of {name} over the mean of both, ml, by volume"
    return drawing(f"agreement {number}", label, _SIZE_IN, draw)
