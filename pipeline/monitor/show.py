"""`fieldmark monitor`: a period of production on 80 columns, or as JSON."""

import re
import time

import sqlalchemy as sa
from rich.console import Console
from rich.table import Column, Table

from pipeline import FieldmarkError, config, one_line
from pipeline.monitor import tables, watch
from pipeline.monitor.alerts import WORDS
from pipeline.monitor.clock import clock
from pipeline.monitor.figures import Summary, Version
from pipeline.monitor.summary import by_status
from pipeline.monitor.watch import Look

HOURS = {"m": 1 / 60, "h": 1.0, "d": 24.0}


def show(*, since: str, json: bool) -> bool:
    """Print the period; whether there is an alert.

    Raises FieldmarkError where the store cannot be read.
    """
    cfg = config.load("monitor").monitor
    hours = cfg.hours if not since else _hours(since)
    try:
        look = watch.look(tables.connect(tables.url()), cfg, hours=hours, until=time.time())
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise FieldmarkError(f"the monitor store cannot be read: {one_line(error)}") from error
    if json:
        print(look.model_dump_json(indent=1))
    else:
        _print(look, Console())
    return bool(look.alerts)


def _hours(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    if not match or float(match[1]) == 0:
        raise FieldmarkError(
            f"--since: {text!r} is not a length of time; write for example 30m, 24h or 7d"
        )
    return float(match[1]) * HOURS[match[2]]


def _print(look: Look, console: Console) -> None:
    span = look.summary
    console.print(
        f"{clock(span.since, dated=True)} to {clock(span.until, dated=True)}", highlight=False
    )
    if not span.versions:
        console.print("No prediction is on record in this time; `fieldmark serve` writes them.")
    else:
        console.print(_traffic(span))
        for version in (version for version in span.versions if version.statuses):
            console.print(
                f"Without a prediction, version {_short(version.version)}, by status: "
                f"{by_status(version.statuses)}",
                highlight=False,
            )
        console.print(_accuracy(span))
        console.print(*(_classes(version) for version in span.versions))
        if any(version.drift for version in span.versions):
            console.print(_drift(span))
    console.print()
    for alert in look.alerts:
        console.print(watch.line(alert), style="bold red", markup=False, highlight=False)
    if not look.alerts:
        console.print("no alert")


def _traffic(span: Summary) -> Table:
    columns = _right("requests", "a minute", "refused", "failed", "p50 ms", "p95 ms", "p99 ms")
    table = _table("\nTraffic", "version", *columns)
    for v in span.versions:
        minutes = max((v.last - v.first) / 60, 1 / 60)
        quantiles = [
            f"{v.latency_ms[q]:.1f}" if q in v.latency_ms else "" for q in ("p50", "p95", "p99")
        ]
        table.add_row(
            _short(v.version),
            f"{v.n:,}",
            f"{v.n / minutes:.1f}",
            f"{v.refused}",
            f"{v.failed}",
            *quantiles,
        )
    return table


def _accuracy(span: Summary) -> Table:
    columns = _right("validation", "expected (95 %)", "labels", "right (95 %)")
    table = _table(
        "\nAccuracy: expected from confidence, and by people's labels", "version", *columns
    )
    for v in span.versions:
        a = v.accuracy
        right = _between(a.right / a.labelled, a.low, a.high) if a.labelled else ""
        table.add_row(
            _short(v.version),
            _share(a.in_reference),
            _between(a.by_threshold, a.by_threshold_low, a.by_threshold_high),
            f"{a.labelled}",
            right,
        )
    return table


def _between(value: float | None, low: float | None, high: float | None) -> str:
    """With its interval; empty where there are too few answers."""
    if value is None or low is None or high is None:
        return ""
    return f"{value:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def _classes(version: Version) -> Table:
    title = f"\nClasses, version {_short(version.version)}"
    table = _table(title, "class", *_right("predicted", "share", "in validation"))
    for row in sorted(version.classes, key=lambda row: -row.n)[:12]:
        table.add_row(row.name[:40], f"{row.n:,}", _share(row.share), _share(row.reference))
    return table


def _drift(span: Summary) -> Table:
    columns = _right("images", "windows", "alarms", "last", "smallest p")
    table = _table(
        "\nDrift: windows compared with the validation images", "version", *columns, "where"
    )
    for version in span.versions:
        for w in version.drift:
            name, p = min(w.last_p.items(), key=lambda each: each[1])
            alarm = p <= w.level
            row = [
                _short(version.version),
                f"{w.size}",
                f"{w.n}",
                f"{w.alarms}",
                clock(w.last_end),
                f"{p:.2g}",
                WORDS[name].split()[0],
            ]
            table.add_row(*row, style="bold red" if alarm else None)
    return table


def _table(title: str, *columns: Column | str) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
    )


def _right(*names: str) -> list[Column]:
    return [Column(name, justify="right") for name in names]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _short(version: str) -> str:
    return version if len(version) <= 12 else f"{version[:11]}…"
