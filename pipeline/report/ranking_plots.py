"""ROC and precision-recall curves as SVG, in the style of pipeline.report.plots."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.pixels.sheets import QUIET
from pipeline.report import drawing
from pipeline.report.drawing import BLUE, GREEN, ORANGE

NAMED = 3  # the classes that are ranked worst have colours; more lines could not be told apart
LOOKS = ((BLUE, "-"), (ORANGE, "--"), (GREEN, ":"))


def roc(curves: pd.DataFrame, table: pd.DataFrame) -> bytes:
    """SVG: true positives over false positives. Both arguments as evaluation/ranking makes them."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(aspect="equal")
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2)
        _lines(axes, curves, table, "roc_auc", ("false_positive_rate", "true_positive_rate"))
        axes.set(xlabel="false positives", ylabel="true positives")
        axes.legend(loc="lower right")

    return drawing.svg(draw, (4.4, 4.2))


def precision_recall(curves: pd.DataFrame, table: pd.DataFrame) -> bytes:
    """SVG: precision over recall. Both arguments as evaluation/ranking makes them."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(aspect="equal")
        _lines(axes, curves, table, "average_precision", ("recall", "precision"))
        axes.set(xlabel="recall", ylabel="precision")
        axes.legend(loc="lower left")

    return drawing.svg(draw, (4.4, 4.2))


def _lines(
    axes: Axes, curves: pd.DataFrame, table: pd.DataFrame, by: str, ends: tuple[str, str]
) -> None:
    worst = table.sort_values(by, kind="stable")["class"].head(NAMED).tolist()
    looks = dict(zip(worst, LOOKS, strict=False))
    # Grey first, so that the coloured lines lie above them.
    for name in sorted(curves["class"].unique(), key=lambda each: each in looks):
        line = curves[curves["class"] == name]
        colour, style = looks.get(name, (QUIET, "-"))
        label = drawing.short(name) if name in looks else None
        wide = 1.8 if name in looks else 0.7
        # Between two recalls the precision is that of the larger one, as its average counts it.
        drawn = axes.step if by == "average_precision" else axes.plot
        drawn(line[ends[0]], line[ends[1]], color=colour, ls=style, label=label, lw=wide)
    if len(table) > NAMED:
        axes.plot([], [], color=QUIET, linewidth=0.7, label="other classes")
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    drawing.percent(axes.xaxis, axes.yaxis)
    drawing.grid(axes)
