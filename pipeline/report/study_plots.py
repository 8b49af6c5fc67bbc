"""Figures of a study as SVG, see plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.pixels.sheets import QUIET
from pipeline.report import drawing, plots
from pipeline.report.drawing import BLUE, ORANGE

PARAMS = "params_"


def write(
    folder: Path,
    rows: pd.DataFrame,
    shares: pd.DataFrame,
    *,
    metric: str,
    direction: Literal["maximize", "minimize"],
) -> None:
    """trials.svg, timeline.svg, and where there is something to show importance.svg and
    parallel.svg.

    rows: as all of these take them together; shares: as `importance` takes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "trials": plots.trials(rows, metric=metric, direction=direction),
        "timeline": timeline(rows),
        "parallel": parallel(rows, metric=metric, direction=direction),
        "importance": importance(shares) if len(shares) else None,
    }
    for name, figure in figures.items():
        if figure is not None:
            (folder / f"{name}.svg").write_bytes(figure)


def importance(rows: pd.DataFrame) -> bytes:
    """SVG: a bar for each hyperparameter, the most important on top.

    rows: columns hyperparameter and importance, the most important first.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(rows["hyperparameter"], rows["importance"], color=BLUE, height=0.6)
        axes.invert_yaxis()
        axes.set(xlabel="importance", xlim=(0, 1))
        axes.tick_params(length=0)
        axes.grid(axis="x")

    return drawing.svg(draw, (4.6, 0.8 + 0.35 * len(rows)))


def parallel(
    rows: pd.DataFrame, *, metric: str, direction: Literal["maximize", "minimize"]
) -> bytes | None:
    """SVG: one line per trial that ran to its end, through its hyperparameters to its value; the
    best one in colour. None where fewer than two such trials have all of them.

    rows: columns number, value, stopped and params_NAME.
    """
    names = [str(name) for name in rows.columns if str(name).startswith(PARAMS)]
    ended = rows[~rows["stopped"]].dropna(subset=["value", *names])
    if len(ended) < 2 or not names:
        return None
    ordered = ended.sort_values("value", ascending=direction == "maximize")  # the best on top
    scales = [_scale(ordered[name]) for name in [*names, "value"]]
    labels = [name.removeprefix(PARAMS) for name in names] + [metric.replace("_", " ")]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        heights = np.column_stack([heights for heights, _ in scales])
        for number, line in enumerate(heights):
            best = number == len(heights) - 1
            axes.plot(
                line,
                color=BLUE if best else QUIET,
                linewidth=2.2 if best else 1.0,
                alpha=1.0 if best else 0.55,
                zorder=3 if best else 2,
            )
        for place, (_, marks) in enumerate(scales):
            _mark(axes, place, marks)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yticks([])
        axes.set(ylim=(-0.06, 1.06), xlim=(-0.2, len(labels) - 0.5))
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.tick_params(length=0)

    return drawing.svg(draw, (1.6 * len(labels) + 1, 3.4))


def timeline(rows: pd.DataFrame) -> bytes:
    """SVG: a bar from the start to the end of each trial, so that one sees how many ran at once.

    rows: columns number, start_s, end_s (seconds) and stopped.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for stopped, colour, label in ((False, BLUE, "complete"), (True, ORANGE, "stopped early")):
            some = rows[rows["stopped"] == stopped]
            if len(some):
                axes.barh(
                    some["number"],
                    some["end_s"] - some["start_s"],
                    left=some["start_s"],
                    color=colour,
                    height=0.7,
                    label=label,
                )
        axes.invert_yaxis()
        axes.set(xlabel="seconds", ylabel="trial")
        axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.legend()
        axes.tick_params(length=0)
        axes.grid(axis="x")

    return drawing.svg(draw, (6.2, 1.2 + 0.18 * len(rows)))


def _scale(values: pd.Series) -> tuple[np.ndarray, Sequence[tuple[float, str]]]:
    """Where each value stands between 0 and 1, and what is written where: the ends of numbers, each
    of a few choices. Numbers over more than a factor of ten stand on a logarithmic scale.
    """
    if values.dtype == object or values.dtype == bool or values.nunique() <= 4:
        choices = sorted(values.unique())
        place = {choice: i / max(1, len(choices) - 1) for i, choice in enumerate(choices)}
        heights = np.array([place[value] for value in values])
        return heights, [(height, f"{choice}") for choice, height in place.items()]
    low, high = float(values.min()), float(values.max())
    scaled = (
        np.log(values.to_numpy(float)) if low > 0 and high > 10 * low else values.to_numpy(float)
    )
    heights = (scaled - scaled.min()) / (scaled.max() - scaled.min())
    return heights, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]


def _mark(axes: Axes, place: int, marks: Sequence[tuple[float, str]]) -> None:
    for height, text in marks:
        axes.annotate(
            text,
            (place, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=QUIET,
            zorder=4,
        )
