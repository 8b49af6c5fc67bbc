"""A tracking server that is away: before a stage, in the middle of one, and for every command."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2 as httpx
import pytest
import yaml
from conftest import ROOT
from exports import tiny_export
from holding import wait_until
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from ports import free_port

from pipeline import stages
from pipeline.runs import pending, runner, stores, tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*type hint is inferred:UserWarning"),
]

LIMIT_S = 10
IMPORTS_S = 3  # of the ten, on a machine that does nothing else
COMMANDS = {
    "ingest": [],
    "lineage": [],
    "models": [],
    "history": [],
    "promote": [],
    "rollback": [],
    "reproduce": ["1"],
    "predict": ["photo.png"],
    "serve": ["--port", "0"],
}
TOY = {
    "cmd": "fieldmark toy",
    "params": ["seed"],
    "deps": ["data/ingest", "pipeline/stages/toy.py"],
    "outs": ["data/toy"],
}
GOES_AWAY = """
import os, signal
from pathlib import Path
import numpy as np
from pipeline.runs import tracking


def run(cfg, *, ingest, out, run_id):
    with tracking.trial_run(run_id, "before", {"a": 1}):
        tracking.log_metrics({"val/accuracy": 0.5})
    os.killpg(int(Path("server.pid").read_text()), signal.SIGKILL)
    with tracking.trial_run(run_id, "after", {"a": 2}) as own:
        tracking.log_history([{"epoch": 0.0, "loss": 2.0}, {"epoch": 1.0, "loss": 1.0}], own)
        tracking.log_metrics({"val/accuracy": 0.75}, step=1)
    (out / "table.csv").write_text("a\\n1\\n")
    tracking.register(Path("exported"), "fieldmark", tags={"seed": "7"})
    return {"n": 3.0}
"""


def fieldmark(folder: Path, uri: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command as a person starts it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env={**environment, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(folder)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def refusing() -> str:
    """Nobody listens there."""
    return f"http://127.0.0.1:{free_port()}"


class _Unavailable(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, format: str, *_: object) -> None:
        """Nothing, to keep the output short."""


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """It takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def unavailable() -> Iterator[str]:
    """A proxy whose server is away."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("how", ["refusing", "silent", "unavailable"])
def test_a_server_that_is_away_is_one_line_within_seconds(
    how: str, request: pytest.FixtureRequest, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue(how))
    start = time.monotonic()
    with pytest.raises(stores.Away, match=r"^the store failed \(http://127.*MLFLOW_TRACKING_URI$"):
        tracking.connect()
    assert time.monotonic() - start < LIMIT_S - IMPORTS_S


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_asks_the_server_says_in_one_line_that_it_is_away(
    command: str, project: Path, refusing: str
) -> None:
    shutil.copy(ROOT / "dvc.lock", project)
    (project / "photo.png").write_bytes(b"")
    done = fieldmark(project, refusing, command, *COMMANDS[command])
    problems = [line for line in done.stderr.splitlines() if not line.startswith("loading ")]
    assert done.returncode == 2 and len(problems) == 1
    assert problems[0].startswith(f"fieldmark: the store failed ({refusing}: ")
    assert "Connection refused)" in problems[0]
    assert not (project / "data" / "ingest").exists()


@contextmanager
def serving(folder: Path, port: int) -> Iterator[int]:
    """`mlflow server` on the store of that folder; its process group."""
    command = [
        str(Path(sys.executable).parent / "mlflow"),
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
        "--workers",
        "1",
        "--port",
        str(port),
    ]
    environment = {
        **{k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), "mlflow server")
        assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
        yield process.pid
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def toy(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one stage more, in the middle of which the server is killed."""
    wiring = yaml.safe_load((project / "dvc.yaml").read_text())
    wiring["stages"]["toy"] = TOY
    (project / "dvc.yaml").write_text(yaml.safe_dump(wiring))
    (project / "data" / "ingest").mkdir()
    (project / "pipeline" / "stages" / "toy.py").write_text(GOES_AWAY)
    exported = tiny_export(project / "exported")
    (exported / "card.md").write_text("a model")
    (exported / "reference.parquet").write_bytes(b"")
    monkeypatch.setattr(stages, "__path__", [str(project / "pipeline" / "stages")])
    sys.modules.pop("pipeline.stages.toy", None)
    return project


@pytest.fixture
def empty(tmp_path: Path, empty_store: Path) -> Path:
    """A folder for a server, with a store that has its tables."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


def test_a_server_that_goes_away_in_the_middle_of_a_stage_gets_the_rest_when_it_is_back(
    toy: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(empty, port) as group:
        (toy / "server.pid").write_text(str(group))
        runner.run("toy")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "fieldmark:" in line]
    assert len(warnings) == 1 and ".fieldmark/pending" in warnings[0]
    shutil.rmtree(toy / "exported")
    metrics = json.loads((toy / "data" / "toy" / "metrics.json").read_text())
    assert metrics == {"n": 3.0}
    with serving(empty, port):
        client = tracking.connect()
        runs = {run.info.run_name: run for run in _all(client)}
        stage, trial = runs["toy"], runs["after"]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        assert stage.data.metrics["n"] == 3.0 and "out.hash" in stage.data.tags
        assert trial.data.tags["mlflow.parentRunId"] == stage.info.run_id
        assert trial.data.params == {"a": "2"}
        losses = client.get_metric_history(trial.info.run_id, "loss")
        assert [(point.step, point.value) for point in losses] == [(0, 2.0), (1, 1.0)]
        artifacts = {file.path for file in client.list_artifacts(stage.info.run_id)}
        assert artifacts == {"config.json", "table.csv", "metrics.json"}
        version = client.get_model_version_by_alias("fieldmark", "candidate")
        assert (version.tags["seed"], version.run_id) == ("7", stage.info.run_id)
        model = tracking.download("models:/fieldmark@candidate", toy / "model")
        assert {"model.onnx", "card.md"} <= {file.name for file in model.iterdir()}
    assert list(pending.folder().iterdir()) == []


def _all(client: MlflowClient) -> list[Run]:
    there = client.get_experiment_by_name("fieldmark")
    assert there is not None
    return list(client.search_runs([there.experiment_id]))


def kept(place: str, *entries: pending.Entry) -> Path:
    """A journal of a process that has ended."""
    journal = pending.Journal(place)
    for entry in entries:
        journal.add(entry)
    journal.close()
    return journal.folder


def test_what_was_kept_for_one_server_does_not_go_to_another(project: Path) -> None:
    folder = kept("http://a:5000", {"what": "tags", "run": "r"})
    sent: list[pending.Entry] = []
    assert pending.deliver("http://b:5000", sent.append) == 0
    assert (sent, folder.exists()) == ([], True)


def test_a_delivery_that_is_cut_off_goes_on_where_it_stopped(project: Path) -> None:
    kept("http://a", *({"what": "tags", "run": str(i)} for i in range(4)))
    sent: list[str] = []

    def until(n: int) -> Callable[[pending.Entry], None]:
        def send(entry: pending.Entry) -> None:
            if len(sent) == n:
                raise ConnectionError
            sent.append(entry["run"])

        return send

    with pytest.raises(ConnectionError):
        pending.deliver("http://a", until(2))
    assert pending.deliver("http://a", until(9)) == 2
    assert sent == ["0", "1", "2", "3"] and list(pending.folder().iterdir()) == []


def test_a_line_that_a_full_disk_cut_off_costs_nothing_but_itself(project: Path) -> None:
    folder = kept("http://a", {"what": "tags", "run": "r"})
    with (folder / pending.ENTRIES).open("a") as file:
        file.write('{"what": "tag')
    sent: list[pending.Entry] = []
    assert pending.deliver("http://a", sent.append) == 1
    assert sent == [{"what": "tags", "run": "r"}]


def test_files_are_kept_as_they_were_when_they_were_logged(project: Path) -> None:
    output = project / "made"
    (output / "plots").mkdir(parents=True)
    (output / "plots" / "a.csv").write_text("old")
    entry = {"what": "files", "run": "r", "path": str(output), "names": ["plots/a.csv"]}
    kept("http://a", entry)
    shutil.rmtree(output)
    texts: list[str] = []
    pending.deliver(
        "http://a", lambda sent: texts.append((Path(sent["path"]) / "plots/a.csv").read_text())
    )
    assert texts == ["old"]


def test_a_journal_that_is_being_written_is_left_alone(project: Path) -> None:
    journal = pending.Journal("http://a")
    journal.add({"what": "tags", "run": "r"})
    sent: list[pending.Entry] = []
    assert pending.deliver("http://a", sent.append) == 0
    journal.close()
    assert pending.deliver("http://a", sent.append) == 1


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("http://me:secret@tracking:5000/ml?token=x", "http://tracking:5000/ml"),
        ("https://tracking/", "https://tracking"),
        ("postgresql://me:secret@db/mlflow", "postgresql://db/mlflow"),
    ],
)
def test_no_password_is_printed_or_kept(uri: str, place: str) -> None:
    assert stores.place(uri) == place
