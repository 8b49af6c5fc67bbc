"""Several processes behind one port: they count, limit and stop as one, and one that dies is
replaced.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from conftest import ROOT, copy_project
from exports import tiny_export
from holding import LONG, wait_until
from taking import take
from test_api import picture, settings

from pipeline.serving import plan
from pipeline.serving.keys import Keys

N = 2


class Served:
    """`fieldmark serve --workers` of an exported folder; each request has a connection of its own,
    which any process may take.
    """

    def __init__(self, folder: Path) -> None:
        line = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "serve",
            "--folder",
            "export",
            "--port",
            "0",
            "--workers",
            str(N),
        ]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                line,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        return self._log.read_text()

    def pids(self) -> list[int]:
        """Of the processes that have loaded the model, in that order."""
        return [
            int(line.split()[1].rstrip(":"))
            for line in self.said().splitlines()
            if line.startswith("Process ")
        ]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url() + path, timeout=60)

    def predict(self) -> int:
        return httpx.post(
            f"{self._url()}/predict",
            content=picture("red"),
            headers={"content-type": "image/jpeg"},
            timeout=60,
        ).status_code

    def _url(self) -> str:
        return next(word for word in self.said().split() if word.startswith("http"))


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder = copy_project(tmp_path / "project")
    tiny_export(folder / "export")
    params = (folder / "params.yaml").read_text()
    params = params.replace(
        "monitor: {use: default}", "monitor: {use: default, every_s: 0.3, max_p95_ms: 0.001}"
    )
    (folder / "params.yaml").write_text(
        params.replace("serving: {use: default}", "serving: {use: default, drain_s: 5.0}")
    )
    running = Served(folder)
    yield running
    running.process.kill()
    running.process.wait()
    # no process outlives its supervisor
    wait_until(lambda: not any(map(alive, running.pids())), "all have ended")


@pytest.mark.slow
def test_one_that_dies_is_replaced_nothing_counted_is_lost_and_all_end_in_order(
    served: Served,
) -> None:
    def counted() -> set[bool]:
        return {
            f'fieldmark_requests_total{{status="200"}} {float(n)}' in served.get("/metrics").text
            for _ in range(5)
        }

    wait_until(lambda: len(served.pids()) == N, "all serve")
    n = 12
    assert {served.predict() for _ in range(n)} == {200}
    assert counted() == {True}
    os.kill(served.pids()[0], signal.SIGKILL)
    wait_until(lambda: len(served.pids()) == N + 1, "one more serves")
    assert served.predict() == 200
    n += 1
    assert counted() == {True}
    assert served.said().count("alert: latency") == 1  # every process sees it, one says so
    served.process.terminate()
    wait_until(lambda: served.get("/health/ready").status_code == 503, "not ready any more")
    assert served.predict() == 200  # no longer ready, but still answering
    assert served.process.wait(LONG) == 0
    assert not any(map(alive, served.pids()))
    assert "Traceback" not in served.said()


@pytest.mark.slow
def test_a_model_that_is_not_sound_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    tiny_export(folder / "export")
    (folder / "export" / "model.onnx").write_bytes(b"broken")
    served = Served(folder)
    assert served.process.wait(LONG) == 2
    assert "model.onnx: ONNX Runtime cannot run it; export it again" in served.said()
    assert "the reason is above" in served.said() and "Traceback" not in served.said()


@pytest.mark.slow
def test_ctrl_c_while_they_load_ends_all_with_one_line(tmp_path: Path) -> None:
    """It reaches each process of a terminal."""
    folder = copy_project(tmp_path / "project")
    tiny_export(folder / "export")
    served = Served(folder)
    wait_until(lambda: "Serving with" in served.said(), "it starts its processes")
    wait_until(
        lambda: len(psutil.Process(served.process.pid).children()) > N,
        "they and multiprocessing's own are there",
    )
    os.killpg(served.process.pid, signal.SIGINT)
    assert served.process.wait(LONG) == 0
    assert served.said().splitlines()[2:] == [
        "stopping after the running requests; a second signal stops at once"
    ]


def test_a_key_asks_no_more_of_two_processes_than_of_one() -> None:
    keys = Keys({"hash": "ada"}, rate_per_s=1.0, burst=5)
    other = multiprocessing.get_context("spawn").Process(target=take, args=(keys, 3))
    other.start()
    other.join()
    assert other.exitcode == 3
    assert [keys.wait_s("ada", 0.0) == 0 for _ in range(3)] == [True, True, False]


def test_the_limits_of_all_are_the_limits_and_the_largest_request_has_room_in_each() -> None:
    whole = settings(
        workers=4,
        decode_threads=8,
        max_decoding_mb=4000.0,
        max_waiting_decoding_mb=8000.0,
        max_waiting=256,
        max_waiting_mb=100.0,
        max_connections=400,
        max_explained=4,
    )
    each = plan.share(whole)
    assert [
        4 * each.max_waiting,
        4 * each.max_waiting_mb,
        4 * each.max_connections,
        4 * each.max_explained,
    ] == [256, 100.0, 400, 4]
    assert [
        4 * each.decode_threads,
        4 * each.max_decoding_mb,
        4 * each.max_waiting_decoding_mb,
    ] == [8, 4000.0, 8000.0]
    crowded = plan.share(whole.model_copy(update={"workers": 64}))
    assert (crowded.max_waiting, crowded.max_waiting_mb, crowded.max_explained) == (
        whole.max_images,
        whole.max_upload_mb,
        1,
    )
    one_photo_mb = plan.USUAL_BYTES_PER_PIXEL * whole.max_megapixels
    assert (crowded.decode_threads, crowded.max_decoding_mb, crowded.max_waiting_decoding_mb) == (
        2,
        one_photo_mb,
        one_photo_mb,
    )
