"""Reads the store at intervals and logs each new alert once; page and gauges use the last look."""

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
from pipeline.monitor.figures import Summary

log = logging.getLogger(__name__)
WRITTEN_S = 0.4  # after this time a record is in the store; see records.PAUSE_S
CurrentModel = Callable[[], tuple[str, pd.DataFrame | None]]


class Look(BaseModel):
    """A summary of the store, and its alerts."""

    summary: Summary
    alerts: list[Alert]


def look(engine: sa.Engine, cfg: schema.Monitor, *, hours: float, until: float) -> Look:
    """Test the full windows, then summarise the hours before `until` (seconds since 1970).

    Raises SQLAlchemyError or OSError where the store cannot be reached.
    """
    windows.update(engine, cfg.drift)
    period = summary.read(engine, since=until - 3600 * hours, until=until, slow_ms=cfg.max_p95_ms)
    return Look(summary=period, alerts=alerts.find(period, cfg))


class Watcher:
    """A thread that reads the store every `cfg.every_s` seconds.

    `last` is None before the first look, and while the store cannot be reached.
    `current_model` returns the current version and its reference (None where it has none);
    `logs_alerts` says whether this process is the one that logs.
    """

    def __init__(
        self,
        url: str,
        cfg: schema.Monitor,
        current_model: CurrentModel = lambda: ("", None),
        logs_alerts: Callable[[], bool] = lambda: True,
    ) -> None:
        self.cfg, self._current_model, self._logs_alerts = cfg, current_model, logs_alerts
        self._stored_version = ""
        self.last: Look | None = None
        self._engine, self._stop = tables.connect(url), threading.Event()
        self._wake, self._looked = threading.Event(), threading.Event()
        self._raised: set[tuple[str, str]] = set()
        self._thread = threading.Thread(target=self._work, name="monitor-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread after the current look; wait for `timeout_s` at most."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def look_again(self, patience_s: float) -> None:
        """Ask the thread for a look at the records so far, and wait for it, for `patience_s` at most."""
        if not self._thread.is_alive():
            return
        time.sleep(WRITTEN_S)
        self._looked.clear()
        self._wake.set()
        self._looked.wait(patience_s)

    def refresh(self) -> None:
        """Look now; a store that cannot be reached is logged, and `last` becomes None."""
        try:
            self._store_reference()
            self.last = look(self._engine, self.cfg, hours=self.cfg.hours, until=time.time())
        except (sa.exc.SQLAlchemyError, OSError) as error:
            self.last = None
            log.warning("the monitor store cannot be read: %s", one_line(error))
            return
        self._log(self.last.alerts)

    def _store_reference(self) -> None:
        version, reference = self._current_model()
        if reference is not None and version != self._stored_version:
            reading.store_reference(self._engine, version, reference)
            self._stored_version = version

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self.refresh()
            self._looked.set()
            self._wake.wait(self.cfg.every_s)

    def _log(self, current: list[Alert]) -> None:
        now = {(alert.kind, alert.version): alert for alert in current}
        before, self._raised = self._raised, set(now)
        if not self._logs_alerts():
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
