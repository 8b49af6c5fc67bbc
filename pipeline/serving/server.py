"""`fieldmark serve`: one process, since the engine uses all cores by itself; uvicorn in front."""

import ipaddress
import logging
import signal
import socket
import threading
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pipeline import config
from pipeline.errors import FieldmarkError
from pipeline.monitor import tables
from pipeline.schema import Serving
from pipeline.serving import explanation, feedback, page
from pipeline.serving import keys as api_keys
from pipeline.serving.app import create
from pipeline.serving.keys import Keys
from pipeline.serving.limits import MB
from pipeline.serving.punctual import punctual
from pipeline.serving.swap import Folder, Registry, Source
from pipeline.serving.watched import watched


def serve(*, folder: Path | None, version: str, host: str, port: int | None, keep: bool | None = None) -> None:
    """Serve until a signal, keeping images for feedback or not as `keep` or else conf/ says; raises FieldmarkError where keys are missing, the port is taken or there is no sound model."""
    cfg = config.load("serving", "export", "monitor")
    name = cfg.export.registered_name
    serving = cfg.serving.model_copy(update={"host": host or cfg.serving.host, "port": cfg.serving.port if port is None else port})
    keys = guarded(serving)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    source: Source = Folder(folder, name) if folder else Registry(name, version)
    with _listening(serving) as listening:
        kept = feedback.Keeping(serving.feedback, round(serving.max_megapixels * MB)) if keep or (keep is None and serving.feedback.keep) else None
        routers = [page.router(), feedback.router(kept)]
        app = create(serving, source, keys=keys, explain=explanation.explain, keeping=kept, routers=routers)
        model = app.state.server.keeper.model
        shown = f"[{serving.host}]" if ":" in serving.host else serving.host
        print(f"Serving {model.name} version {model.version} ({model.engine.name}): http://{shown}:{listening.getsockname()[1]}", flush=True)
        counters = app.state.server.counters
        protocol = punctual(serving.timeout_s, serving.max_connections, lambda why: counters.hung_up.labels(why).inc())
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=30, http=protocol,
            timeout_graceful_shutdown=int(serving.timeout_s) + 1,
        )  # fmt: skip
        with watched(app, cfg.monitor, tables.url()):
            Draining(settings, app, serving.drain_s).run(sockets=[listening])


def new_key(name: str) -> str:
    """A key of that name, whose hash is now in the keys file."""
    return api_keys.new(name, Path(config.load("serving").serving.keys_file))


def guarded(cfg: Serving) -> Keys | None:
    """The keys; none are needed where only this machine can ask. Raises FieldmarkError where some are, and there are none."""
    known = api_keys.load(Path(cfg.keys_file))
    if not known and not _loopback(cfg.host):
        raise FieldmarkError(f"{cfg.host} can be reached from elsewhere and there is no API key; make one: fieldmark serve --new-key NAME")
    return Keys(known, cfg.rate_per_s, cfg.burst) if known else None


class Draining(uvicorn.Server):
    """Told to stop, it says that it is not ready, goes on answering for a while, then ends what is under way."""

    def __init__(self, settings: uvicorn.Config, app: FastAPI, drain_s: float) -> None:
        super().__init__(settings)
        self._app, self._drain_s = app, drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one of Ctrl-C ends at once."""
        shared = self._app.state.server
        if shared.draining or (sig == signal.SIGINT and not self._drain_s):
            super().handle_exit(sig, frame)
            return
        shared.draining = True
        timer = threading.Timer(self._drain_s, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()


def _listening(cfg: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((cfg.host, cfg.port))
        made.listen(2048)  # from here on a client waits instead of failing
    except OSError as error:
        made.close()
        raise FieldmarkError(f"cannot listen at {cfg.host}, port {cfg.port}; name others with --host and --port") from error
    return made


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
