"""A well-behaved client beside thirty-two that send what is small and huge to decode.

    pytest -m benchmark tests/benchmarks/test_hostile.py -s

FIELDMARK_BENCH_S: seconds of it (20).
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from conftest import ROOT, copy_project
from exports import tiny_export
from PIL import Image
from test_serving import fieldmark, running

SECONDS = float(os.environ.get("FIELDMARK_BENCH_S", "20"))
N_HOSTILE, PORT, MB = 32, 8541, 10**6
BESIDE_MB = (
    300  # what else a server may take under such load: forms being read, an allocator's rest
)
EVERY_S = 0.1


def huge() -> bytes:
    """50 megapixels in 6 KiB, with transparency, which takes one more layer."""
    buffer = BytesIO()
    Image.new("P", (10_000, 5_000)).save(buffer, "PNG", bits=1, transparency=0, optimize=True)
    return buffer.getvalue()


def photo() -> bytes:
    buffer, random = BytesIO(), np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8))
    noise.resize((640, 480)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def form(files: list[bytes]) -> tuple[bytes, dict[str, str]]:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = b"".join(head + data + b"\r\n" for data in files) + b"--x--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=x"}


def ask(body: bytes, headers: dict[str, str]) -> str:
    """The status, or what happened in its place."""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request("POST", "/predict", body, headers)
        return str(connection.getresponse().status)
    except (OSError, HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def until(over: threading.Event, do: Callable[[], None]) -> threading.Thread:
    def work() -> None:
        while not over.is_set():
            do()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.benchmark
@pytest.mark.parametrize("n_files", [1, 8, 32])
def test_a_small_photo_is_answered_beside_thirty_two_hostile_clients(
    n_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_project(tmp_path / "project")
    tiny_export(folder / "export")
    body, headers = form([huge()] * n_files)
    small, took, over = photo(), list[float](), threading.Event()
    hostile, behaved = Counter[str](), Counter[str]()
    rss = list[int]()
    command = fieldmark("serve", "--folder", "export", "--port", str(PORT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with running(command, f"http://127.0.0.1:{PORT}/health/ready", folder) as process:
        server = psutil.Process(process.pid)
        for _ in range(5):
            ask(small, {"Content-Type": "image/jpeg"})
        idle = server.memory_info().rss

        def well_behaved() -> None:
            begun = time.monotonic()
            behaved[ask(small, {"Content-Type": "image/jpeg"})] += 1
            took.append(time.monotonic() - begun)
            time.sleep(EVERY_S)

        def watch() -> None:
            rss.append(server.memory_info().rss)
            time.sleep(0.02)

        def attack() -> None:
            hostile[ask(body, headers)] += 1

        threads = [until(over, do) for do in (well_behaved, watch, *[attack] * N_HOSTILE)]
        time.sleep(SECONDS)
        over.set()
        for thread in threads:
            thread.join()
    p50, p99 = np.percentile(took, [50, 99])
    limits = yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    bound = limits["max_decoding_mb"] + BESIDE_MB
    print(
        f"\nfile of {len(huge()) / 1024:.1f} KiB; beside {N_HOSTILE} times {n_files} of them: {len(took)} "
        f"answers {dict(behaved)}, p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms, max "
        f"{1000 * max(took):.0f} ms; hostile {dict(hostile)}; memory {idle / MB:.0f} MB idle, "
        f"{max(rss) / MB:.0f} MB at most (bound: idle and {bound:.0f})"
    )
    assert behaved.keys() == {"200"}
    assert p99 < 2.0
    assert max(rss) - idle < bound * MB
