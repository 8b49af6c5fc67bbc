"""Figures of robustness as SVG, in the style of pipeline.report.plots."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.pixels.sheets import QUIET
from pipeline.report import drawing
from pipeline.report.drawing import BLUE, GREEN, ORANGE

COLOURS = (QUIET, GREEN, ORANGE, BLUE)
CLEAN = ("no attack", "no corruption")


def curves(rows: pd.DataFrame) -> bytes:
    """SVG: accuracy over the radius, a line per attack, with the interval of the strongest.

    rows: of robustness.csv, in the order of the attacks' strength.
    """
    clean = rows[rows["method"].isin(CLEAN)]
    methods = [name for name in rows["method"].unique() if name not in CLEAN]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, name in enumerate(methods):
            line = pd.concat([clean, rows[rows["method"] == name]]).sort_values("severity")
            colour = BLUE if name == methods[-1] else COLOURS[i % 3]
            axes.plot(
                line["severity"], line["accuracy"], "o-", color=colour, markersize=4, label=name
            )
            if name == methods[-1]:
                axes.fill_between(
                    line["severity"], line["low"], line["high"], color=BLUE, alpha=0.15, lw=0
                )
        largest = rows["largest_class"].max()
        axes.axhline(largest, color=QUIET, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.annotate("largest class", (1, largest), xycoords=("axes fraction", "data"), ha="right")
        axes.set(xlabel="radius, of 255", ylabel="accuracy", ylim=(0, 1.02))
        axes.legend()
        drawing.percent(axes.yaxis)
        drawing.grid(axes)

    return drawing.svg(draw, (6.2, 3.9))


def corruptions(rows: pd.DataFrame) -> bytes:
    """SVG: one row per corruption, the worst on top, shaded by accuracy at each severity."""
    clean = rows[rows["method"].isin(CLEAN)]["accuracy"].max()
    kinds = rows[~rows["method"].isin(CLEAN)]
    table = kinds.pivot(index="method", columns="severity", values="accuracy")
    table = table.loc[table.mean(axis=1).sort_values(kind="stable").index]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = table.to_numpy()
        axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto", alpha=0.9)
        for row, column in np.ndindex(values.shape):
            dark = values[row, column] > 0.6
            text = f"{100 * values[row, column]:.0f}"
            colour = "#ffffff" if dark else "#1b2430"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5)
        axes.set_xticks(range(values.shape[1]), [f"{severity:g}" for severity in table.columns])
        axes.set_yticks(range(values.shape[0]), [name.replace("_", " ") for name in table.index])
        axes.set(xlabel=f"severity; {100 * clean:.0f} % without corruption")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)

    return drawing.svg(draw, (4.2, 0.9 + 0.26 * len(table)))
