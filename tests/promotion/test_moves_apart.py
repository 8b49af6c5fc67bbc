"""The alias `production` where processes promote at once, or speak to a server that goes away."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2 as httpx
import moving
import pytest
from holding import LONG, wait_until
from ports import free_port
from registered import aliases, register, write_test_images
from test_moves import chain, client, past, production

from pipeline import FieldmarkError, config
from pipeline.promotion import moves, tables

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")


@pytest.mark.slow
def test_processes_that_promote_at_once_take_turns(cfg: config.Config, tmp_path: Path) -> None:
    """tests/benchmarks/test_promotions.py does so with fifty."""
    for _ in range(4):
        register(tmp_path)
    processes = [moving.start(cfg, str(number)) for number in range(1, 5)]
    states, reader = set[tuple[str, ...]](), client()
    while any(process.is_alive() for process in processes) or not states - {()}:
        states.add(
            tuple(
                number
                for alias, number in reader.get_registered_model("fieldmark").aliases.items()
                if alias.lower() == "production"
            )
        )
        time.sleep(0.02)
    assert [process.exitcode for process in processes] == [0] * 4
    links = chain(past())
    assert sorted(after for _, after in links) == ["1", "2", "3", "4"]
    assert [before for before, _ in links] == [None, *(after for _, after in links[:-1])]
    assert production() == links[-1][1]
    assert {len(now) for now in states - {()}} == {1}


class Between(ThreadingHTTPServer):
    """Passes requests on to the server, until a certain one comes: from then on nobody answers."""

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Pass)
        self.behind, self.last, self.delivered, self.gone = (
            httpx.Client(base_url=server, timeout=LONG),
            "",
            False,
            False,
        )
        self.url, self.met, self.meeting = (
            f"http://127.0.0.1:{self.server_port}",
            "",
            threading.Barrier(1),
        )

    def cut(self, method: str = "", path: str = "", *, delivered: bool = False) -> None:
        """Answer again, and be gone at that request; `delivered` where the server still gets it and
        only its answer is lost.
        """
        self.last, self.delivered, self.gone = f"{method} /api/2.0/mlflow{path}", delivered, False

    def meet(self, method: str, path: str, n: int) -> None:
        """Pass on requests of that kind when n of them are there."""
        self.met, self.meeting = (
            f"{method} /api/2.0/mlflow{path}",
            threading.Barrier(n, timeout=LONG),
        )


class _Pass(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Between

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if f"{self.command} {self.path}" == self.server.met:
            self.server.meeting.wait()
        now = not self.server.gone and f"{self.command} {self.path}" == self.server.last
        if self.server.gone or (now and not self.server.delivered):
            self.server.gone = self.close_connection = True
            return
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() in ("content-type", "accept")
        }
        answer = self.server.behind.request(self.command, self.path, content=body, headers=headers)
        if now:
            self.server.gone = self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass

    def log_message(self, format: str, *_: object) -> None:
        """Nothing, to keep the output short."""


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('server') / 'mlflow.db')}"


@pytest.fixture(scope="module")
def between(store: str) -> Iterator[Between]:
    """`mlflow server` in a process of its own, and what stands before it."""
    port = free_port()
    folder = Path(store.removeprefix("sqlite:///")).parent
    line = [
        str(Path(sys.executable).parent / "mlflow"),
        "server",
        "--backend-store-uri",
        store,
        "--workers",
        "1",
        "--port",
        str(port),
    ]
    # Its workers for evaluation jobs would take longer to start than the server itself.
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            line, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or _answers(url), "mlflow server")
        assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
        with Between(url) as proxy:
            threading.Thread(target=proxy.serve_forever, daemon=True).start()
            yield proxy
            proxy.shutdown()
            proxy.behind.close()
    finally:
        if process.poll() is None:  # else its number may be another one's by now
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def versions(
    cfg: config.Config,
    tmp_path: Path,
    store: str,
    between: Between,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Three new versions; the server is the store, and nobody waits long for one that is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    versions = [register(tmp_path) for _ in range(3)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", between.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    between.cut()
    between.met = ""
    return versions


@pytest.mark.slow
def test_promotion_rollback_and_history_work_over_http(
    versions: list[str], cfg: config.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = versions
    moves.promote(cfg, first, why="the first")
    moves.promote(cfg, second)
    assert (production(), aliases(client())["previous"]) == (second, first)
    moves.rollback(cfg, why="complaints")
    assert production() == first
    assert chain(past())[-2:] == [(first, second), (second, first)]
    capsys.readouterr()
    tables.history(cfg)
    tables.models(cfg)
    output = capsys.readouterr().out
    assert output.index("complaints") < output.index("the first") and "production" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "delivered",
    [
        pytest.param(False, id="the move is lost"),
        pytest.param(True, id="only the answer is lost", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_goes_away_in_the_middle_leaves_one_production(
    delivered: bool, versions: list[str], cfg: config.Config, between: Between
) -> None:
    first, second, third = versions
    moves.promote(cfg, first)
    between.cut("POST", "/registered-models/alias", delivered=delivered)
    process = moving.start(cfg, second, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    process.join()
    assert between.gone
    output = Path(f"{second}.log").read_text().splitlines()[-1]
    assert (
        process.exitcode == 2
        and output.startswith("the store failed (")
        and "`fieldmark history` says" in output
    )
    with pytest.raises(FieldmarkError, match="the store failed .*try again once it answers"):
        tables.history(cfg)
    between.cut()
    cut = second if delivered else first
    assert production() == cut
    moves.promote(cfg, third)
    assert production() == third and aliases(client())["previous"] == cut
    assert "RUNNING" not in {record.status for record in past()}
    assert chain(past())[-1] == (cut, third)


@pytest.mark.slow
def test_two_machines_that_promote_at_once_do_not_both_do_so(
    versions: list[str], cfg: config.Config, between: Between, tmp_path: Path
) -> None:
    """Their lock files are in different folders, and each has looked at what is in production
    before the other claims the move.
    """
    first, *others = versions
    moves.promote(cfg, first)
    start = len(chain(past()))
    machines = [tmp_path / f"machine {version}" for version in others]
    for machine in machines:
        write_test_images(machine / "data/preprocess/test")
    between.meet("POST", "/runs/create", 2)
    processes = [
        moving.start(cfg, version, folder=machine, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        for version, machine in zip(others, machines, strict=True)
    ]
    states, reader = set[str | None](), client()
    while any(process.is_alive() for process in processes):
        states.add(aliases(reader).get("production"))
        time.sleep(0.05)
    codes = {version: process.exitcode for version, process in zip(others, processes, strict=True)}
    refused = [
        machine / f"{version}.log"
        for machine, version in zip(machines, others, strict=True)
        if codes[version] == 2
    ]
    assert set(codes.values()) <= {0, 2} and len(refused) >= 1
    assert all(
        "is moving `production`" in log.read_text() or "in the meantime" in log.read_text()
        for log in refused
    )
    winners = [(first, version) for version, code in codes.items() if code == 0]
    assert chain(past())[start:] == winners
    assert production() == (winners[0][1] if winners else first)
    assert None not in states and "RUNNING" not in {record.status for record in past()}
    between.met = ""
    moves.promote(cfg, next(version for version in others if version != production()))
    assert chain(past())[-1][0] == (winners[0][1] if winners else first)
