"""The server under the eye of the monitor: records on their way to the store, the page, the gauges, the alerts."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from pipeline.monitor import gauges, page
from pipeline.monitor.records import Recorder
from pipeline.monitor.watch import Watcher
from pipeline.schema import Monitor


@contextmanager
def watched(app: FastAPI, cfg: Monitor, url: str) -> Iterator[None]:
    """While inside, what `app` (of app.create) predicts is recorded and watched; enter before the app starts.

    Raises FieldmarkError for an address of no store. A store that is away is no reason not to serve.
    """
    server = app.state.server
    recorder = Recorder(url, cfg.max_rows)
    watcher = Watcher(url, cfg, served=lambda: (server.keeper.model.version, server.keeper.model.reference))
    app.state.recorder = recorder
    app.include_router(page.router(watcher, recorder))
    gauges.collect(server.counters.registry, watcher, recorder)
    watcher.start()
    try:
        yield
    finally:
        watcher.stop()
        recorder.close()
