"""Figures as SVG; the same input gives the same bytes.

An SVG has no background and turns light on a dark page (prefers-color-scheme), its letters are the
reader's own. Colours are those of Okabe and Ito 2008, which the colour-blind can tell apart.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import Bbox, BboxBase
from sklearn import metrics

from pipeline.pixels.sheets import INK, QUIET, printable

LINES = "#d5dbe3"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
ON_DARK = {
    INK: "#e8ecf1",
    QUIET: "#a3adba",
    LINES: "#39424e",
    BLUE: "#56b4e9",
    ORANGE: "#f0884a",
    GREEN: "#2fc79a",
}
CELL = "#0b65a8"  # not in ON_DARK: white numbers must stay readable on a full cell

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fieldmark",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "axes.labelcolor": QUIET,
    "axes.titlecolor": INK,
    "axes.edgecolor": LINES,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": LINES,
    "ytick.color": LINES,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
LONGEST_NAME = 22
LONGEST_CANDIDATE = 34
LATENCY = "latency/p50_ms"
MOST_NUMBERED_CLASSES = 15
MOST_NAMED_CLASSES = 60


def confusion_matrix(confusion: pd.DataFrame, classes: Sequence[str]) -> bytes:
    """SVG: a row a true class, shaded by the share of its images, with counts; takes columns
    actual, predicted.
    """
    counts = metrics.confusion_matrix(
        confusion["actual"], confusion["predicted"], labels=list(classes)
    )
    # The power lets a confusion of a few percent be seen beside a full diagonal.
    shades = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** 0.6
    side = 0.9 + max(map(_width_inches, classes), default=0) + min(0.42 * len(classes), 6.0)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(aspect="equal")
        for row, column in np.argwhere(counts).tolist():
            _cell(axes, row, column, shades[row, column], int(counts[row, column]), len(classes))
        _class_axes(axes, classes)

    return _svg(draw, (side, side * 0.92))


def reliability(bins: pd.DataFrame) -> bytes:
    """SVG: accuracy over confidence, and below how many images each bin holds; takes
    `metrics.reliability`.
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
        _percent(upper.yaxis, lower.xaxis)
        _grid(upper)

    return _svg(draw, (4.6, 4.4))


def risk_coverage(curve: pd.DataFrame) -> bytes:
    """SVG: share of wrong answers over share of images answered; takes `metrics.risk_coverage`."""

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
        axes.set(xlabel="images answered, the surest first", ylabel="wrong among them")
        axes.set(xlim=(0, 1), ylim=(0, max(curve["risk"].max() * 1.25, 0.01)))
        _percent(axes.xaxis, axes.yaxis)
        _grid(axes)

    return _svg(draw, (4.6, 3.4))


def history(rows: pd.DataFrame) -> bytes:
    """SVG: a line a column over `epoch`; columns named *loss* on the left, the others (fractions)
    on the right.
    """
    columns = [column for column in rows.columns if column != "epoch"]
    panels = [[c for c in columns if "loss" in c], [c for c in columns if "loss" not in c]]
    panels = [panel for panel in panels if panel]

    def draw(figure: Figure) -> None:
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            axes.set_prop_cycle(
                color=[BLUE, ORANGE, GREEN, QUIET], linestyle=["-", "--", ":", "-."]
            )  # not by colour alone
            for column in panel:
                known = rows[["epoch", column]].dropna()
                axes.plot(known["epoch"], known[column], label=column)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.legend()
            _grid(axes)

    return _svg(draw, (3.9 * len(panels), 3.0))


def leaderboard(rows: pd.DataFrame, *, metric: str, budget_ms: float) -> bytes:
    """SVG: `metric` over latency on a logarithmic axis; takes columns name, latency/p50_ms and
    `metric`.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        inside = rows[LATENCY] <= budget_ms
        for some, colour, marker in ((rows[inside], BLUE, "o"), (rows[~inside], ORANGE, "X")):
            axes.scatter(some[LATENCY], some[metric], color=colour, marker=marker, s=44, zorder=3)
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
            _percent(axes.yaxis)
        _grid(axes)
        _name_points(
            figure, axes, rows[[LATENCY, metric]].to_numpy(dtype=float), rows["name"].tolist()
        )

    return _svg(draw, (6.2, 3.9))


def trials(rows: pd.DataFrame, *, metric: str, direction: Literal["maximize", "minimize"]) -> bytes:
    """SVG: each trial's value and the best so far of those that ran to their end; takes columns
    number, value, stopped.

    A stopped trial has the value at which it was stopped (NaN: it never had one), which is never
    the best.
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
        _grid(axes)

    return _svg(draw, (6.2, 3.2))


def _svg(draw: Callable[[Figure], None], size_inches: tuple[float, float]) -> bytes:
    figure = Figure(figsize=size_inches, layout="constrained")
    target = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The letters come from the reader's fonts, so it does not matter which of them ours lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # A single letter can be ten wide (U+FDFD): then names overlap, which is no reason to stop.
        warnings.filterwarnings(
            "ignore", message="constrained_layout not applied", category=UserWarning
        )
        draw(figure)
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    return target.getvalue().replace(b"<defs>", f"{_theme()}<defs>".encode(), 1)


def _theme() -> str:
    recoloured = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in ON_DARK.items()
        for what in ("fill", "stroke")
    )
    letters = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif!important}"
    return f"<style>{letters}@media(prefers-color-scheme:dark){{{recoloured}}}</style>"


def _cell(axes: Axes, row: int, column: int, shade: float, count: int, n_classes: int) -> None:
    square = matplotlib.patches.Rectangle(
        (column - 0.47, row - 0.47), 0.94, 0.94, facecolor=CELL, alpha=shade, lw=0
    )
    axes.add_patch(square)
    if n_classes > MOST_NUMBERED_CLASSES:
        return
    # Above this shade white is easier to read than ink on the blend of cell and white page.
    colour = "#ffffff" if shade > 0.75 else INK
    axes.text(
        column,
        row,
        f"{count}",
        color=colour,
        ha="center",
        va="center",
        weight="bold" if row == column else None,
    )


def _class_axes(axes: Axes, classes: Sequence[str]) -> None:
    n = len(classes)
    names = [_short(name) for name in classes] if n <= MOST_NAMED_CLASSES else []
    places = range(len(names))
    upright = max(map(len, names), default=0) > 8 or n > MOST_NUMBERED_CLASSES
    axes.set_xticks(places, names, rotation=90 if upright else 0)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5 if n <= MOST_NUMBERED_CLASSES else 6)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="predicted", ylabel="true")
    axes.spines[["left", "bottom"]].set_visible(False)
    for edge in range(n + 1):
        axes.axhline(edge - 0.5, color=LINES, linewidth=0.5)


def _name_points(figure: Figure, axes: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Each name beside its point, on the nearest place where it covers no other name, point or
    line.
    """
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    # Constrained layout moves the axes with what lies in them; names are laid out for the axes as
    # they are now.
    figure.set_layout_engine("none")
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(points)]
    taken = [*dots, *(line.get_window_extent() for line in axes.lines)]
    for point, name in zip(points, names, strict=True):
        label = axes.annotate(
            _short(name, LONGEST_CANDIDATE),
            point,
            textcoords="offset points",
            xytext=(0, 0),
            fontsize=9,
        )
        for label.xyann, side, height in _places():
            label.set(ha=side, va=height)
            extent = label.get_window_extent()
            if _inside(extent, frame) and not extent.count_overlaps(taken):
                break
        taken.append(label.get_window_extent())


def _inside(inner: BboxBase, outer: BboxBase) -> bool:
    return all(outer.contains(x, y) for x, y in inner.corners())


def _places() -> list[tuple[tuple[int, int], str, str]]:
    """Offset in points and alignment, the most readable first: right, left, above, below, then
    farther away.
    """
    near = [((8, 0), "left", "center"), ((-8, 0), "right", "center")]
    far = [
        ((shift, sign * away), side, "center")
        for away in range(12, 61, 6)
        for shift, side in ((0, "center"), (8, "left"), (-8, "right"))
        for sign in (1, -1)
    ]
    return near + far


def _grid(axes: Axes) -> None:
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _percent(*axes: matplotlib.axis.Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _short(name: str, longest: int = LONGEST_NAME) -> str:
    name = printable(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _width_inches(name: str) -> float:
    """A guess on the safe side: letters beyond ASCII may be as wide as they are high."""
    return float(sum(0.075 if letter.isascii() else 0.14 for letter in _short(name)))
