"""Learning curves as a figure and a table."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pipeline.report import drawing
from pipeline.report.drawing import BLUE, GREEN, ORANGE


def learning_curve(measured: pd.DataFrame, forecast: pd.DataFrame, *, metric: str) -> bytes:
    """SVG: `metric` over photos on a logarithmic axis, one curve per candidate with its interval.

    measured: columns name, class, n, value; forecast: these with low and high; class "" is over all.
    """
    overall = forecast[forecast["class"] == ""]
    names = dict(zip(overall["candidate"], overall["name"], strict=True))
    styles = dict(
        zip(names, [(BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^")], strict=False)
    )

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot(xscale="log")
        for own, (colour, line, marker) in styles.items():
            rows = overall[overall["candidate"] == own]
            dots = measured[(measured["candidate"] == own) & (measured["class"] == "")]
            axes.fill_between(
                rows["n"], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(rows["n"], rows["value"], color=colour, linestyle=line, label=names[own])
            axes.scatter(dots["n"], dots["value"], color=colour, marker=marker, s=18, zorder=3)
        axes.set(xlabel="training photos", ylabel=metric.replace("_", " "))
        ticks = sorted(set(overall["n"]))
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        axes.tick_params(axis="x", labelrotation=30)
        axes.legend(loc="lower right")
        drawing.percent(axes.yaxis)
        drawing.grid(axes)

    return drawing.svg(draw, (6.2, 3.9))


def class_table(forecast: pd.DataFrame, n: int) -> pd.DataFrame:
    """One row per class of the first candidate: its F1 with the photos there are, `n`, and with
    each larger number, with intervals.
    """
    first = forecast[forecast["candidate"] == forecast["candidate"].iloc[0]]
    rows = first[first["n"] >= n]
    spans = [
        f"{value:.3f} ({low:.3f} to {high:.3f})"
        for value, low, high in rows[["value", "low", "high"]].to_numpy(dtype=float)
    ]
    columns = [f"{more:,} photos" for more in rows["n"]]
    labelled_rows = rows.assign(spans=spans, photos=columns)
    wide = labelled_rows.pivot(index="class", columns="photos", values="spans")
    in_order: pd.DataFrame = wide[list(dict.fromkeys(columns))]
    return in_order.reset_index().rename_axis(columns=None)
