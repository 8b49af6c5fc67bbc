"""Looks at the store at intervals, logs each new alert once, and keeps the last look for the page
and for Prometheus.
"""

import logging
import threading
import time
from collections.abc import Callable

import pandas as pd
import sqlalchemy as sa
from pydantic import BaseModel

from pipeline import one_line
from pipeline.config import schema
from pipeline.monitor import alerts, reading, summary, tables, windows
from pipeline.monitor.alerts import Alert
from pipeline.monitor.summary import Summary

log = logging.getLogger(__name__)
Served = Callable[[], tuple[str, pd.DataFrame | None]]


class Look(BaseModel):
    """What was seen, and what is wrong about it."""

    summary: Summary
    alerts: list[Alert]


def look(engine: sa.Engine, cfg: schema.Monitor, *, hours: float, until: float) -> Look:
    """Test the windows that have filled, then sum up the hours before `until` (seconds since 1970).

    Raises SQLAlchemyError or OSError where the store cannot be reached.
    """
    windows.update(engine, cfg.drift)
    seen = summary.read(engine, since=until - 3600 * hours, until=until, slow_ms=cfg.max_p95_ms)
    return Look(summary=seen, alerts=alerts.find(seen, cfg))


class Watcher:
    """A thread that looks every `cfg.every_s` seconds; `last` is None until the first look, and
    where the store is away.

    `served` names the version that answers now, and its reference (None where it has none);
    `speaks` says whether this process is the one that logs.
    """

    def __init__(
        self,
        url: str,
        cfg: schema.Monitor,
        served: Served = lambda: ("", None),
        speaks: Callable[[], bool] = lambda: True,
    ) -> None:
        self.cfg, self._served, self._remembered, self._speaks = cfg, served, "", speaks
        self.last: Look | None = None
        self._engine, self._stop = tables.connect(url), threading.Event()
        self._known: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._work, name="monitor-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends after the look that is under way, which is not waited for longer than
        `timeout_s`.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def refresh(self) -> None:
        """Look now; a store that is away is logged, and leaves nothing to show."""
        try:
            self._remember()
            self.last = look(self._engine, self.cfg, hours=self.cfg.hours, until=time.time())
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self.last = None
            log.warning("the monitor store cannot be read: %s", one_line(error))
            return
        self._tell(self.last.alerts)

    def _remember(self) -> None:
        version, reference = self._served()
        if reference is not None and version != self._remembered:
            reading.remember(self._engine, version, reference)
            self._remembered = version

    def _work(self) -> None:
        while not self._stop.is_set():
            self.refresh()
            self._stop.wait(self.cfg.every_s)

    def _tell(self, found: list[Alert]) -> None:
        now = {(alert.kind, alert.version): alert for alert in found}
        before, self._known = self._known, set(now)
        if not self._speaks():
            return
        for key in now.keys() - before:
            log.warning("%s", line(now[key]))
        for kind, version in before - now.keys():
            log.warning("alert over: %s%s", kind, f", version {version}" if version else "")


def line(alert: Alert) -> str:
    """An alert as one line of a log."""
    return (
        f"alert: {alert.kind}{f', version {alert.version}' if alert.version else ''}: "
        f"{alert.message}"
    )
