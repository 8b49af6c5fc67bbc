"""A new version comes in under load without a failed request; a broken one does not come in at
all.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from conftest import ROOT
from exports import tiny_export
from fastapi.testclient import TestClient
from holding import LONG, wait_until
from test_api import BASE, picture, settings

from pipeline import FieldmarkError
from pipeline.exported import model
from pipeline.exported.model import Model
from pipeline.runs import tracking
from pipeline.serving import app as serving_app
from pipeline.serving import keys, server
from pipeline.serving.swap import CurrentModel, Folder, Registry

JPEG = {"content-type": "image/jpeg"}


class Named:
    """A source that names what a test tells it to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version, self.away = folder, "1", False

    def current(self) -> str:
        if self.away:
            raise ConnectionError("no registry")
        return self.version

    def load(self, version: str) -> Model:
        return model.load(self.folder / version, version=version)


def test_versions_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    for i in range(1, 5):
        tiny_export(tmp_path / str(i), bias=i - 1)
    source, seen, over = Named(tmp_path), list[tuple[int, str, str]](), threading.Event()
    with TestClient(
        serving_app.create(settings(poll_s=0.05, timeout_s=LONG), source), base_url=BASE
    ) as api:

        def ask() -> None:
            while not over.is_set():
                answer = api.post("/predict", content=picture("red"), headers=JPEG)
                told = answer.json()
                seen.append(
                    (
                        answer.status_code,
                        told["model"]["version"],
                        told["predictions"][0]["top"][0]["class"],
                    )
                )

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for i in range(1, 5):
            source.version = str(i)
            wait_until(
                lambda: source.version in {version for _, version, _ in seen},
                f"an answer of version {i}",
            )
        over.set()
        for thread in threads:
            thread.join()
        assert 'fieldmark_version_events_total{event="swapped"} 3.0' in api.get("/metrics").text
    names = {"1": "red", "2": "blue", "3": "green", "4": "red"}
    assert {status for status, _, _ in seen} == {200}
    assert {version for _, version, _ in seen} == set(names)
    # no answer of one version under another's name
    assert all(names[version] == name for _, version, name in seen)


def test_a_broken_version_is_refused_and_shown_and_the_next_one_taken(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        tiny_export(tmp_path / str(i))
    (tmp_path / "2" / "model.onnx").write_bytes(b"broken")
    source = Named(tmp_path)
    with TestClient(serving_app.create(settings(poll_s=60.0), source), base_url=BASE) as api:
        current = api.app.state.server.current  # type: ignore[attr-defined]
        source.version = "2"
        current.look()
        current.look()  # is not loaded again
        about, figures = api.get("/model").json(), api.get("/metrics").text
        assert about["version"] == "1"
        assert about["refused"]["version"] == "2" and "model.onnx" in about["refused"]["reason"]
        assert str(tmp_path) not in about["refused"]["reason"]
        assert "fieldmark_version_refused 1.0" in figures and 'event="refused"} 1.0' in figures
        assert api.post("/predict", content=picture(), headers=JPEG).status_code == 200
        source.version = "3"
        current.look()
        assert (api.get("/model").json()["version"], api.get("/model").json()["refused"]) == (
            "3",
            None,
        )


def test_a_registry_that_is_away_stops_nothing(export: Path) -> None:
    source = Named(export.parent)
    export.rename(export.parent / "1")
    events: list[str] = []
    current = CurrentModel(source, events.append)
    source.away = True
    current.look()
    assert (current.model.version, current.refused, events) == ("1", None, ["away"])


@pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
def test_a_version_whose_files_are_gone_is_refused_without_a_word_of_the_machine(
    empty_store: Path, tmp_path: Path
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    client = tracking.connect()
    client.create_registered_model("fieldmark")
    for number in "12":
        client.create_model_version("fieldmark", tiny_export(tmp_path / number).as_uri())
    client.set_registered_model_alias("fieldmark", "production", "1")
    current = CurrentModel(Registry("fieldmark"))
    for file in (tmp_path / "2").iterdir():
        file.unlink()
    client.set_registered_model_alias("fieldmark", "production", "2")
    current.look()
    assert current.model.version == "1"
    assert (
        current.refused is not None
        and "fieldmark version 2 has no model.onnx, signature.json, thresholds.json"
        in current.refused.reason
    )
    assert "/" not in current.refused.reason


def test_a_folder_is_served_anew_once_its_files_rest(export: Path) -> None:
    current = CurrentModel(Folder(export, "fieldmark"))
    before = current.model.version
    whole = (export / "signature.json").read_text()
    (export / "signature.json").unlink()
    current.look()
    (export / "signature.json").write_text(whole[:20])  # half written
    current.look()
    assert (current.model.version, current.refused) == (before, None)
    tiny_export(export, ("crimson", "green", "blue"))
    current.look()
    current.look()
    assert current.model.classes[0] == "crimson"
    assert current.model.version == model.fingerprint(export)[:12] != before


def test_it_does_not_start_where_others_can_reach_it_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    with pytest.raises(FieldmarkError, match="--new-key"):
        server.guarded(settings(host="0.0.0.0", keys_file=str(file)))
    assert server.guarded(settings(keys_file=str(file))) is None
    keys.new("camera", file)
    assert server.guarded(settings(host="0.0.0.0", keys_file=str(file)))
    with pytest.raises(FieldmarkError, match="already"):
        keys.new("camera", file)
    monkeypatch.setenv(keys.VARIABLE, "lab:no-hash")
    with pytest.raises(FieldmarkError, match=keys.VARIABLE):
        server.guarded(settings(keys_file=str(file)))


@pytest.fixture
def running(export: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`fieldmark serve --folder` in a process of its own that must not load torch or MLflow, and
    its address.
    """
    conf = tmp_path / "project" / "conf"
    shutil.copytree(ROOT / "conf", conf)
    params = (ROOT / "params.yaml").read_text()
    conf.with_name("params.yaml").write_text(
        params.replace("serving: {use: default}", "serving: {use: default, drain_s: 5.0}")
    )
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run of the tests in the background has it ignored
class Never:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mlflow", "optuna", "pytorch_lightning"):
            raise ImportError(name + " is not for serving")
sys.meta_path.insert(0, Never())
sys.argv = ["fieldmark", "serve", "--folder", {str(export)!r}, "--port", "0"]
from pipeline.cli import main
main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=conf.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"loading {export}")
    line = process.stdout.readline()
    assert "http://" in line, line + process.stdout.read()
    yield process, line.split()[-1]
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_command_serves_a_folder_alone_and_ends_in_order(
    running: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = running
    with httpx.Client(base_url=url, timeout=LONG) as api:
        assert (
            api.post("/predict", content=picture("blue"), headers=JPEG).json()["predictions"][0][
                "top"
            ][0]["class"]
            == "blue"
        )
        os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: api.get("/health/ready").status_code != 200, "it says that it stops")
        answers = [
            api.post("/predict", content=picture(), headers=JPEG).status_code for _ in range(5)
        ]
    assert answers == [200] * 5
    assert process.wait(LONG) in (0, -signal.SIGTERM)
    assert process.stdout is not None and "Traceback" not in process.stdout.read()


def test_a_second_ctrl_c_gives_up_what_is_under_way_in_words(
    running: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = running
    assert process.stdout is not None
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
        )
        wait_until(
            lambda: "fieldmark_inside_images 1.0" in httpx.get(f"{url}/metrics").text,
            "the upload is under way",
        )
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout.readline().startswith("stopping")
        os.kill(process.pid, signal.SIGINT)
        assert client.recv(1000).startswith(b"HTTP/1.1 503 ")
    assert process.wait(LONG) == 130
    assert process.stdout.read() == ""
