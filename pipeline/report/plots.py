"""Figures as SVG; the same input gives the same bytes.

An SVG has no background and turns light on a dark page (prefers-color-scheme). The reader's fonts
draw its text. Colours are those of Okabe and Ito 2008, which colour-blind people can tell apart.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from sklearn import metrics

from pipeline.pixels.sheets import QUIET
from pipeline.report import drawing
from pipeline.report.drawing import BLUE, GREEN, ORANGE

LATENCY = "latency/p50_ms"


def confusion_matrix(confusion: pd.DataFrame, classes: Sequence[str]) -> bytes:
    """SVG: one row per true class, shaded by the share of its images, with counts.

    confusion: columns actual, predicted.
    """
    counts = metrics.confusion_matrix(
        confusion["actual"], confusion["predicted"], labels=list(classes)
    )
    # The power makes a confusion of a few percent visible beside a full diagonal.
    shades = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** 0.6
    side = 0.9 + max(map(drawing.width_inches, classes), default=0) + min(0.42 * len(classes), 6.0)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(aspect="equal")
        for row, column in np.argwhere(counts).tolist():
            drawing.cell(
                axes, row, column, shades[row, column], int(counts[row, column]), len(classes)
            )
        drawing.class_axes(axes, classes)

    return drawing.svg(draw, (side, side * 0.92))


def reliability(bins: pd.DataFrame) -> bytes:
    """SVG: accuracy over confidence, and below it how many images each bin holds.

    bins: as `metrics.reliability` returns them.
    """
    filled = bins[bins["n"] > 0]
    middle, width = (filled["low"] + filled["high"]) / 2, (filled["high"] - filled["low"]) * 0.86

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        upper.plot(
            [0, 1],
            [0, 1],
            color=QUIET,
            linestyle=(0, (4, 3)),
            linewidth=1.2,
            label="perfect calibration",
        )
        upper.bar(middle, filled["accuracy"], width=width, color=BLUE, alpha=0.35)
        upper.plot(
            filled["confidence"],
            filled["accuracy"],
            "o-",
            color=BLUE,
            markersize=4.5,
            label="this model",
        )
        upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        upper.legend(loc="upper left")
        lower.bar(middle, filled["n"], width=width, color=QUIET)
        lower.set(xlabel="confidence", ylabel="images")
        lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        drawing.percent(upper.yaxis, lower.xaxis)
        drawing.grid(upper)

    return drawing.svg(draw, (4.6, 4.4))


def risk_coverage(curve: pd.DataFrame) -> bytes:
    """SVG: share of wrong answers over share of images answered.

    curve: as `metrics.risk_coverage` returns it.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(curve["coverage"], curve["risk"], color=BLUE)
        axes.fill_between(curve["coverage"], curve["risk"], color=BLUE, alpha=0.12, linewidth=0)
        last = curve.iloc[-1]
        axes.plot(last["coverage"], last["risk"], "o", color=BLUE, markersize=5, clip_on=False)
        axes.annotate(
            f"all images: {100 * last['risk']:.1f} % wrong",
            (last["coverage"], last["risk"]),
            xytext=(-4, 8),
            textcoords="offset points",
            ha="right",
        )
        axes.set(xlabel="images answered, surest first", ylabel="share of wrong answers")
        axes.set(xlim=(0, 1), ylim=(0, max(curve["risk"].max() * 1.25, 0.01)))
        drawing.percent(axes.xaxis, axes.yaxis)
        drawing.grid(axes)

    return drawing.svg(draw, (4.6, 3.4))


def history(rows: pd.DataFrame) -> bytes:
    """SVG: one line per column over `epoch`; losses on the left, fractions on the right."""
    columns = [column for column in rows.columns if column != "epoch"]
    panels = [[c for c in columns if "loss" in c], [c for c in columns if "loss" not in c]]
    panels = [panel for panel in panels if panel]

    def draw(figure: Figure) -> None:
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            # Lines differ by more than colour.
            axes.set_prop_cycle(
                color=[BLUE, ORANGE, GREEN, QUIET], linestyle=["-", "--", ":", "-."]
            )
            for column in panel:
                filled = rows[["epoch", column]].dropna()
                axes.plot(filled["epoch"], filled[column], label=column)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.legend()
            drawing.grid(axes)

    return drawing.svg(draw, (3.9 * len(panels), 3.0))


def leaderboard(rows: pd.DataFrame, *, metric: str, budget_ms: float) -> bytes:
    """SVG: `metric` over latency on a logarithmic axis, with the Pareto front of the last rung.

    rows: columns name, latency/p50_ms, `metric`, pareto (on the front), within_budget and stopped
    ("" for those that reached the last rung).
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        _candidates(axes, rows, metric)
        axes.axvline(budget_ms, color=ORANGE, linestyle=(0, (4, 3)), linewidth=1.2)
        axes.text(
            budget_ms,
            1.015,
            f"budget {budget_ms:g} ms",
            color=ORANGE,
            ha="center",
            transform=axes.get_xaxis_transform(),
        )
        axes.margins(x=0.14, y=0.14)
        axes.set(xlabel="latency per image (ms)", ylabel=metric.replace("_", " "))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
        if "loss" not in metric:
            drawing.percent(axes.yaxis)
        drawing.grid(axes)
        drawing.name_points(
            figure, axes, rows[[LATENCY, metric]].to_numpy(dtype=float), rows["name"].tolist()
        )

    return drawing.svg(draw, (6.2, 3.9))


def _candidates(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    """A dot for each candidate, hollow for those that ended on an earlier rung, and the front."""
    inside, whole = rows["within_budget"], rows["stopped"] == ""
    front = rows[rows["pareto"]].sort_values(LATENCY)
    axes.step(front[LATENCY], front[metric], where="post", color=GREEN, linewidth=1.2)
    for some, colour, marker, face in (
        (rows[inside & whole], BLUE, "o", BLUE),
        (rows[inside & ~whole], BLUE, "o", "none"),
        (rows[~inside], ORANGE, "X", ORANGE),
    ):
        axes.scatter(
            some[LATENCY],
            some[metric],
            facecolor=face,
            edgecolor=colour,
            marker=marker,
            s=44,
            zorder=3,
        )


def trials(rows: pd.DataFrame, *, metric: str, direction: Literal["maximize", "minimize"]) -> bytes:
    """SVG: each trial's value, and the best so far among those that ran to their end.

    rows: columns number, value, stopped. A stopped trial has its last value (NaN where it had
    none), which never counts as the best.
    """
    rows = rows.sort_values("number")
    ended, stopped = rows[~rows["stopped"]], rows[rows["stopped"]].dropna(subset=["value"])
    best = ended["value"].cummax() if direction == "maximize" else ended["value"].cummin()

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.scatter(
            ended["number"],
            ended["value"],
            color=QUIET,
            s=20,
            alpha=0.75,
            label="trial",
            linewidth=0,
        )
        if len(stopped):
            axes.scatter(
                stopped["number"],
                stopped["value"],
                color=ORANGE,
                marker="x",
                s=22,
                linewidth=1.2,
                label="stopped early",
            )
        axes.step(ended["number"], best.ffill(), where="post", color=BLUE, label="best so far")
        axes.set(xlabel="trial", ylabel=metric.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.legend()
        drawing.grid(axes)

    return drawing.svg(draw, (6.2, 3.2))
