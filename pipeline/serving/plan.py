"""The settings of a server; each of its processes makes the application from them."""

import logging
import math
import sys
import threading
from collections.abc import Callable
from ctypes import c_bool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from pipeline import redacted
from pipeline.config.schema import Monitor, Serving
from pipeline.serving import explanation, feedback, page
from pipeline.serving.app import create
from pipeline.serving.connection import HEAD_BYTES, Connection
from pipeline.serving.keys import Keys
from pipeline.serving.limits import MB
from pipeline.serving.monitoring import watch
from pipeline.serving.swap import Folder, Registry, Source

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# After this time without an answer a process is replaced: it may load a model, or hang.
HEARTBEAT_S = 30
USUAL_BYTES_PER_PIXEL = 10  # memory to decode a PNG, JPEG, GIF or BMP


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))  # a traceback may show a store's password


def log_to_stderr() -> None:
    """Log warnings and errors of this process to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting(LOG_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


@dataclass(frozen=True)
class Plan:
    """What to serve, and how.

    That is the exported `folder`, or else a `version` of the registered model `name`, by default the
    one in production.
    """

    cfg: Serving
    monitor: Monitor
    name: str
    folder: Path | None
    version: str
    keep: bool  # keep images for review
    keys: Keys | None
    records: str  # address of the store
    draining: c_bool = field(default_factory=lambda: RawValue(c_bool, False))  # in shared memory


def application(plan: Plan) -> FastAPI:
    """The whole application; raises FieldmarkError where there is no sound model."""
    cfg = plan.cfg
    source: Source = (
        Folder(plan.folder, plan.name) if plan.folder else Registry(plan.name, plan.version)
    )
    keeping = (
        feedback.Keeping(cfg.feedback, round(cfg.max_megapixels * MB), alone=cfg.workers == 1)
        if plan.keep
        else None
    )
    routers = [page.router(), feedback.router(keeping)]
    app = create(
        cfg,
        source,
        keys=plan.keys,
        explain=explanation.explain,
        keeping=keeping,
        routers=routers,
        draining=plan.draining,
    )
    watch(app, plan.monitor, plan.records)
    return app


def drain(plan: Plan, end: Callable[[], object]) -> None:
    """Report as busy for `drain_s` seconds, go on answering, then end; a second call ends at once."""
    if plan.draining.value or not plan.cfg.drain_s:
        end()
        return
    plan.draining.value = True
    print(
        "stopping after the running requests; a second signal stops at once",
        file=sys.stderr,
        flush=True,
    )
    timer = threading.Timer(plan.cfg.drain_s, end)
    timer.daemon = True
    timer.start()


class Settings(uvicorn.Config):
    """uvicorn's settings for a plan; `load` makes the application, once per process."""

    def __init__(self, plan: Plan) -> None:
        cfg, self.plan = plan.cfg, plan
        super().__init__(
            "",
            workers=cfg.workers,
            ws="none",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # pipeline.serving.proxy reads them, from the proxies in conf/
            server_header=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(cfg.timeout_s) + 1,
            timeout_worker_healthcheck=HEARTBEAT_S,
        )

    def load(self) -> None:
        """Raises FieldmarkError where there is no sound model."""
        app, cfg = application(self.plan), self.plan.cfg
        self.app, self.server = app, app.state.server
        hung_up = self.server.counters.hung_up
        self.http = partial(
            Connection,
            limit_s=cfg.timeout_s,
            max_connections=cfg.max_connections,
            on_hang_up=lambda reason: hung_up.labels(reason).inc(),
        )  # type: ignore[assignment]
        logging.getLogger("uvicorn.error").addFilter(_is_useful)
        super().load()

    def description(self) -> str:
        """Name, version and engine of the model, once it is loaded."""
        model = self.server.current.model
        return f"{model.name} version {model.version} ({model.engine.name})"


def _is_useful(record: logging.LogRecord) -> bool:
    """False for uvicorn's two lines on each request of a client that offers HTTP/2."""
    return not record.getMessage().startswith(("Unsupported upgrade", "No supported WebSocket"))


def share(cfg: Serving) -> Serving:
    """The limits of one of `cfg.workers` processes; together they are the limits of the server.

    Each process has room for the largest request, and for one image of any usual format.
    """
    n, largest_mb = cfg.workers, USUAL_BYTES_PER_PIXEL * cfg.max_megapixels
    return cfg.model_copy(
        update={
            "max_waiting": max(cfg.max_images, math.ceil(cfg.max_waiting / n)),
            "max_waiting_mb": max(cfg.max_upload_mb, cfg.max_waiting_mb / n),
            "max_decoding_mb": max(min(largest_mb, cfg.max_decoding_mb), cfg.max_decoding_mb / n),
            "max_waiting_decoding_mb": max(
                min(largest_mb, cfg.max_waiting_decoding_mb), cfg.max_waiting_decoding_mb / n
            ),
            "decode_threads": max(min(2, cfg.decode_threads), math.ceil(cfg.decode_threads / n)),
            "max_explained": math.ceil(cfg.max_explained / n),
            "max_connections": math.ceil(cfg.max_connections / n),
        }
    )
