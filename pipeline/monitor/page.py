"""GET /monitor: the last look as one page that loads nothing else."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from pipeline import config
from pipeline.monitor.accuracy import FEWEST
from pipeline.monitor.alerts import WORDS
from pipeline.monitor.clock import clock
from pipeline.monitor.records import Recorder
from pipeline.monitor.summary import by_status
from pipeline.monitor.watch import Look, Watcher

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors "
    "'none'",
    "Cache-Control": "no-store",
}
PATIENCE_S = 2.0  # for a look at the newest records
WIDTH, HEIGHT = 480, 96  # of a chart, in units that stretch with the page


def router(watcher: Watcher, recorder: Recorder) -> APIRouter:
    """The page as a route; it shows the watcher's last look, and asks for a new one where there are
    records that this look lacks. It never waits long for the store.
    """
    routes, project = APIRouter(), config.project()

    @routes.get(
        "/monitor",
        response_class=HTMLResponse,
        summary="Monitoring, as a page",
    )
    def monitor(paused: bool = False) -> HTMLResponse:
        last = watcher.last
        if last is None or recorder.last_put > last.summary.until:
            watcher.look_again(PATIENCE_S)
        return HTMLResponse(
            render(
                watcher.last,
                every_s=watcher.cfg.every_s,
                project=project,
                lost=recorder.lost,
                paused=paused,
            ),
            headers=HEADERS,
        )

    return routes


def render(
    look: Look | None, *, every_s: float, project: str, lost: int = 0, paused: bool = False
) -> str:
    """The page as HTML; without a look it says so.

    It reloads itself unless it is `paused`, for people who read slowly or use a screen reader.
    """
    return _template().render(
        look=look,
        every_s=max(1, round(every_s)),
        lost=lost,
        paused=paused,
        words=WORDS,
        fewest=FEWEST,
        project=project,
    )


def bars(values: Sequence[int | float], top: int | float) -> str:
    """An SVG path of vertical bars; `top` has the full height, the smallest is still visible."""
    step = WIDTH / max(len(values), 1)
    corners = [
        (i * step, max(2.0, HEIGHT * min(value / top, 1)))
        for i, value in enumerate(values)
        if value > 0
    ]
    return "".join(
        f"M{x + 0.12 * step:.1f} {HEIGHT}v{-tall:.1f}h{0.76 * step:.1f}v{tall:.1f}z"
        for x, tall in corners
    )


def line(values: Sequence[float | None], low: int | float, high: int | float) -> str:
    """An SVG path through the values, from `low` at the bottom to `high`.

    A missing value gives a gap, a single value a dash.
    """
    step, path = WIDTH / max(len(values), 1), ""
    for missing, run in groupby(enumerate(values), key=lambda each: each[1] is None):
        if missing:
            continue
        points = [
            ((i + 0.5) * step, HEIGHT * (1 - (value - low) / (high - low)))
            for i, value in run
            if value is not None
        ]
        if len(points) == 1:
            points = [(points[0][0] + side * 0.38 * step, points[0][1]) for side in (-1, 1)]
        path += "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return path


def round_up(value: int | float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 and so on, for the top of an axis; at least 1."""
    power = 1.0
    while power * 5 < value:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value)


def _top(values: Sequence[int | float | None]) -> float:
    return round_up(max((value for value in values if value is not None), default=1))


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}\u202f%"


def _number(value: int | float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _duration(ms: float | None) -> str:
    if ms is None:
        return "–"
    if ms >= 10_000:
        return f"{ms / 1000:.3g}\u202fs"
    return f"{_number(ms) if ms >= 100 else format(ms, '.3g')}\u202fms"


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pipeline.monitor", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "clock": clock,
        "share": _share,
        "number": _number,
        "duration": _duration,
        "chance": _chance,
        "by_status": by_status,
        "bars": bars,
        "line": line,
        "top": _top,
    }
    environment.filters.update(filters)
    environment.globals.update(width=WIDTH, height=HEIGHT)
    return environment.get_template("page.html.jinja")
