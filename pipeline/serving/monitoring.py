"""Connects a server with the monitor: its records, page, gauges and alerts."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from filelock import FileLock, Timeout
from prometheus_client import Counter

from pipeline.config.schema import Monitor
from pipeline.monitor import gauges, page
from pipeline.monitor.records import Recorder
from pipeline.monitor.watch import Watcher
from pipeline.serving import problems
from pipeline.serving.counters import SHARED


def watch(app: FastAPI, cfg: Monitor, url: str) -> None:
    """As long as `app` (of app.create, not started yet) runs, what it predicts is recorded and
    watched.

    Raises FieldmarkError for an address of no store. A store that is away is no reason not to
    serve.
    """
    server = app.state.server
    counters = server.counters
    lost = Counter(
        "fieldmark_monitor_lost_records",
        "records of predictions that could not be written",
        registry=counters.registry,
    )
    recorder = Recorder(url, cfg.max_rows, on_loss=lost.inc)
    watcher = Watcher(
        url,
        cfg,
        served=lambda: (server.keeper.model.version, server.keeper.model.reference),
        speaks=_speaker(),
    )
    counters.gauge(
        "fieldmark_monitor_waiting_records",
        "records in the queue",
        lambda: recorder.waiting,
        "livesum",
    )
    up = "1 while the monitor store can be reached"
    counters.gauge(
        "fieldmark_monitor_store_up",
        up,
        lambda: not recorder.away and watcher.last is not None,
        "livemin",
    )
    gauges.collect(counters.shown, watcher)
    app.state.recorder = recorder
    app.include_router(
        page.router(watcher, recorder), responses=problems.described(400, 401, 403, 422, 429, 503)
    )
    served = app.router.lifespan_context

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[Any]:
        watcher.start()
        try:
            async with served(app) as state:
                yield state
        finally:
            watcher.stop()
            recorder.close()

    app.router.lifespan_context = life


def _speaker() -> Callable[[], bool]:
    """Whether this process is the one that logs alerts: of several the first, or who comes after it
    when it has died.
    """
    if SHARED not in os.environ:
        return lambda: True
    lock = FileLock(Path(os.environ[SHARED]) / "speaker.lock", blocking=False)

    def speaks() -> bool:
        try:
            lock.acquire()
        except Timeout:
            return False
        return True

    return speaks
