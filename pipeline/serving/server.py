"""`fieldmark serve`: one process, since the engine uses all cores by itself, or several; uvicorn in
front.
"""

import ipaddress
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from pipeline import FieldmarkError, config
from pipeline.config.schema import Serving
from pipeline.monitor import tables
from pipeline.serving import keys as api_keys
from pipeline.serving.keys import Keys
from pipeline.serving.plan import Plan, Settings, drain, log_to_stderr
from pipeline.serving.workers import supervise


def serve(
    *,
    folder: Path | None,
    version: str,
    host: str,
    port: int | None,
    workers: int | None = None,
    keep: bool | None = None,
) -> None:
    """Serve until a signal, keeping images for feedback or not as `keep` or else conf/ says; raises
    FieldmarkError where keys are missing, the port is taken or there is no sound model.
    """
    cfg = config.load("serving", "export", "monitor")
    given = {"host": host or None, "port": port, "workers": workers}
    serving = cfg.serving.model_copy(
        update={key: value for key, value in given.items() if value is not None}
    )
    plan = Plan(
        cfg=serving,
        monitor=cfg.monitor,
        name=cfg.export.registered_name,
        folder=folder,
        version=version,
        keep=serving.feedback.keep if keep is None else keep,
        keys=guarded(serving),
        records=tables.url(),
    )
    log_to_stderr()
    with _listening(serving) as listening:
        wanted = (
            folder
            or f"{plan.name}, {f'version {version}' if version else 'the version in production'}"
        )
        print(
            f"loading {wanted}, and finding out which engine is the faster",
            file=sys.stderr,
            flush=True,
        )
        shown = f"[{serving.host}]" if ":" in serving.host else serving.host
        url = f"http://{shown}:{listening.getsockname()[1]}"
        if serving.workers > 1:
            print(f"Serving with {serving.workers} processes: {url}", flush=True)
            supervise(plan, listening)
        else:
            settings = Settings(plan)
            settings.load()
            Draining(settings, url).run(sockets=[listening])


def new_key(name: str) -> str:
    """A key of that name, whose hash is now in the keys file."""
    return api_keys.new(name, Path(config.load("serving").serving.keys_file))


def guarded(cfg: Serving) -> Keys | None:
    """The keys; none are needed where only this machine can ask, itself and through no proxy.
    Raises FieldmarkError where some are, and there are none.
    """
    known = api_keys.load(Path(cfg.keys_file))
    if not known and (cfg.proxies or not _loopback(cfg.host)):
        where = "a server behind a proxy" if cfg.proxies else cfg.host
        raise FieldmarkError(
            f"{where} can be reached from elsewhere and there is no API key; make one: "
            f"fieldmark serve --new-key NAME"
        )
    return Keys(known, cfg.rate_per_s, cfg.burst, Path(cfg.keys_file)) if known else None


class Draining(uvicorn.Server):
    """Told to stop, it says that it is not ready, goes on answering for a while, then ends what is
    under way.
    """

    config: Settings

    def __init__(self, settings: Settings, url: str) -> None:
        super().__init__(settings)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says where it serves only once it does: a signal before that finds nobody who would end
        in order.
        """
        await super().startup(sockets)
        print(f"Serving {self.config.says()}: {self._url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, another one ends at once; uvicorn's own way to do that would
        also lose the records that wait.
        """
        again = self.config.plan.draining.value
        drain(self.config.plan, partial(self._end, sig, frame))
        if again:
            for task in list(self.server_state.tasks):
                task.cancel()

    def _end(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            super().handle_exit(sig, frame)


def _listening(cfg: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((cfg.host, cfg.port))
        made.listen(2048)  # from here on a client waits instead of failing
    except OSError as error:
        made.close()
        raise FieldmarkError(
            f"cannot listen at {cfg.host}, port {cfg.port}; name others with --host and --port"
        ) from error
    return made


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
