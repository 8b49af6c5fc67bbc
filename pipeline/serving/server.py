"""`fieldmark serve`: uvicorn in one process, whose engine uses all cores, or in several."""

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
    """Serve until a signal; `keep` says whether to keep images for review, by default as in conf/.

    Raises FieldmarkError where keys are missing, the port is taken or no valid model can be loaded.
    """
    cfg = config.load("name", "serving", "monitor")
    overrides = {"host": host or None, "port": port, "workers": workers}
    serving = cfg.serving.model_copy(
        update={key: value for key, value in overrides.items() if value is not None}
    )
    plan = Plan(
        cfg=serving,
        monitor=cfg.monitor,
        name=cfg.name,
        folder=folder,
        version=version,
        keep=serving.feedback.keep if keep is None else keep,
        keys=guarded(serving),
        records=tables.url(),
    )
    log_to_stderr()
    with _listening(serving) as listening:
        which = f"version {version}" if version else "the version in production"
        print(
            f"loading {folder or f'{plan.name}, {which}'}, and measuring which engine is faster",
            file=sys.stderr,
            flush=True,
        )
        _run(plan, listening)


def _run(plan: Plan, listening: socket.socket) -> None:
    host = f"[{plan.cfg.host}]" if ":" in plan.cfg.host else plan.cfg.host
    url = f"http://{host}:{listening.getsockname()[1]}"
    if plan.cfg.workers > 1:
        print(f"Serving with {plan.cfg.workers} processes: {url}", flush=True)
        supervise(plan, listening)
    else:
        settings = Settings(plan)
        settings.load()
        Draining(settings, url).run(sockets=[listening])


def new_key(name: str) -> str:
    """Make a key of that name and add its hash to the keys file."""
    return api_keys.new(name, Path(config.load("serving").serving.keys_file))


def guarded(cfg: Serving) -> Keys | None:
    """The keys; None where only this machine can reach the server, and there is no proxy.

    Raises FieldmarkError where keys are needed and there are none.
    """
    names = api_keys.load(Path(cfg.keys_file))
    if not names and (cfg.proxies or not _loopback(cfg.host)):
        where = "a server behind a proxy" if cfg.proxies else cfg.host
        raise FieldmarkError(
            f"{where} can be reached from other machines and there is no API key; make one: "
            f"fieldmark serve --new-key NAME"
        )
    return Keys(names, cfg.rate_per_s, cfg.burst, Path(cfg.keys_file)) if names else None


class Draining(uvicorn.Server):
    """A server that, after the signal to stop, reports as not ready, answers for a while, and ends."""

    config: Settings

    def __init__(self, settings: Settings, url: str) -> None:
        super().__init__(settings)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Print the address only now: before, a signal would not end the server in order."""
        await super().startup(sockets)
        print(f"Serving {self.config.description()}: {self._url}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once.

        uvicorn's own handling of a second signal would lose the waiting records.
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
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((cfg.host, cfg.port))
        listening.listen(2048)  # from here on a client waits instead of failing
    except OSError as error:
        listening.close()
        raise FieldmarkError(
            f"cannot listen at {cfg.host}, port {cfg.port}; name others with --host and --port"
        ) from error
    return listening


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
