"""Connects a server to the monitor: records, page, gauges and alerts."""

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
from pipeline.serving.counters import SHARED, Counters


def watch(app: FastAPI, cfg: Monitor, url: str) -> None:
    """Record and watch the predictions of `app`, which app.create made and nobody has started yet.

    Raises FieldmarkError for an invalid address of the store. Serving goes on without the store.
    """
    server = app.state.server
    counters: Counters = server.counters
    lost = Counter(
        "fieldmark_monitor_lost_records",
        "records of predictions that could not be written",
        registry=counters.registry,
    )
    recorder = Recorder(url, cfg.max_rows, on_loss=lost.inc)
    watcher = Watcher(
        url,
        cfg,
        current_model=lambda: (server.current.model.version, server.current.model.reference),
        logs_alerts=_first_process(),
    )
    _add_gauges(counters, recorder, watcher)
    app.state.recorder = recorder
    app.include_router(
        page.router(watcher, recorder), responses=problems.described(400, 401, 403, 422, 429, 503)
    )
    _run_with(app, watcher, recorder)


def _add_gauges(counters: Counters, recorder: Recorder, watcher: Watcher) -> None:
    counters.gauge(
        "fieldmark_monitor_waiting_records",
        "records in the queue",
        lambda: recorder.waiting,
        "livesum",
    )
    counters.gauge(
        "fieldmark_monitor_store_up",
        "1 while the monitor store can be reached",
        lambda: not recorder.away and watcher.last is not None,
        "livemin",
    )
    gauges.collect(counters.exposed, watcher)


def _run_with(app: FastAPI, watcher: Watcher, recorder: Recorder) -> None:
    """Start the watcher before the app, and stop it and the recorder after the app."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        watcher.start()
        try:
            async with inner(app) as state:
                yield state
        finally:
            watcher.stop()
            recorder.close()

    app.router.lifespan_context = lifespan


def _first_process() -> Callable[[], bool]:
    """Whether this is the process that logs alerts: the first one, or its successor."""
    if SHARED not in os.environ:
        return lambda: True
    lock = FileLock(Path(os.environ[SHARED]) / "logging.lock", blocking=False)

    def is_first() -> bool:
        try:
            lock.acquire()
        except Timeout:
            return False
        return True

    return is_first
