"""What the figures share: colours, type, axes, and labels that do not overlap."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox, BboxBase

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
MOST_NUMBERED_CLASSES = 15
MOST_NAMED_CLASSES = 60


def svg(draw: Callable[[Figure], None], size_inches: tuple[float, float]) -> bytes:
    """The bytes of a figure that `draw` fills; its colours change on a dark page."""
    figure = Figure(figsize=size_inches, layout="constrained")
    target = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The reader's fonts draw the text, so missing glyphs in ours do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # One character can be as wide as ten (U+FDFD): then names overlap, which is harmless.
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


def cell(axes: Axes, row: int, column: int, shade: float, count: int, n_classes: int) -> None:
    """One cell of a confusion matrix: its shade and its count."""
    square = matplotlib.patches.Rectangle(
        (column - 0.47, row - 0.47), 0.94, 0.94, facecolor=CELL, alpha=shade, lw=0
    )
    axes.add_patch(square)
    if n_classes > MOST_NUMBERED_CLASSES:
        return
    # Above this shade white is easier to read than ink.
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


def class_axes(axes: Axes, classes: Sequence[str]) -> None:
    """The names of the classes along both axes."""
    n = len(classes)
    names = [short(name) for name in classes] if n <= MOST_NAMED_CLASSES else []
    places = range(len(names))
    upright = max(map(len, names), default=0) > 8 or n > MOST_NUMBERED_CLASSES
    axes.set_xticks(places, names, rotation=90 if upright else 0)
    axes.set_yticks(places, names)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5 if n <= MOST_NUMBERED_CLASSES else 6)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="predicted", ylabel="true")
    axes.spines[["left", "bottom"]].set_visible(False)
    for edge in range(n + 1):
        axes.axhline(edge - 0.5, color=LINES, linewidth=0.5)


def name_points(figure: Figure, axes: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Write each name beside its point, where it covers no other name, point or line.

    It takes the nearest such place.
    """
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    # Constrained layout moves the axes with their contents. The names fit the axes as they are now.
    figure.set_layout_engine("none")
    dots = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(points)]
    occupied = [*dots, *(line.get_window_extent() for line in axes.lines)]
    for point, name in zip(points, names, strict=True):
        label = axes.annotate(
            short(name, LONGEST_CANDIDATE),
            point,
            textcoords="offset points",
            xytext=(0, 0),
            fontsize=9,
        )
        for label.xyann, side, height in _places():
            label.set(ha=side, va=height)
            extent = label.get_window_extent()
            if _inside(extent, frame) and not extent.count_overlaps(occupied):
                break
        occupied.append(label.get_window_extent())


def _inside(inner: BboxBase, outer: BboxBase) -> bool:
    return all(outer.contains(x, y) for x, y in inner.corners())


def _places() -> list[tuple[tuple[int, int], str, str]]:
    """Offset in points and alignment, the most readable first.

    Right, left, above, below, then farther away.
    """
    near = [((8, 0), "left", "center"), ((-8, 0), "right", "center")]
    far = [
        ((shift, sign * away), side, "center")
        for away in range(12, 61, 6)
        for shift, side in ((0, "center"), (8, "left"), (-8, "right"))
        for sign in (1, -1)
    ]
    return near + far


def grid(axes: Axes) -> None:
    """A light grid behind the curves."""
    axes.grid(axis="y")
    axes.tick_params(length=0)


def percent(*axes: matplotlib.axis.Axis) -> None:
    """Axes that show fractions in percent."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def short(name: str, longest: int = LONGEST_NAME) -> str:
    name = printable(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def width_inches(name: str) -> float:
    """A safe guess of a name's width: characters beyond ASCII may be as wide as high."""
    return float(sum(0.075 if letter.isascii() else 0.14 for letter in short(name)))
