"""Clients that send slowly, or nothing, through a socket of their own: none holds its connection for long."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection

import pytest
import uvicorn
from exports import tiny_export
from test_api import picture, settings

from pipeline.serving import app as serving_app
from pipeline.serving import feedback, punctual
from pipeline.serving.swap import Folder

LIMIT_S = 0.5
HEAD = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
UPLOAD, FORBIDDEN, OPINION = (
    HEAD.format(*words).encode() for words in (("POST /predict", "image/jpeg"), ("POST /predict", "text/plain"), ("POST /feedback", "application/json"))
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    export = tiny_export(tmp_path_factory.mktemp("punctual") / "export")
    app = serving_app.create(settings(timeout_s=LIMIT_S), Folder(export, "fieldmark"), routers=[feedback.router(None)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", http=punctual.punctual(LIMIT_S)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def dribble(port: int, start: bytes, drop: bytes) -> tuple[float, bytes]:
    """Send the start, then a drop again and again until the other side hangs up; after how long, and what it said."""
    begun, said = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.1)
        try:
            client.sendall(start)
            while time.monotonic() - begun < 20:
                client.sendall(drop)
                try:
                    if not (heard := client.recv(4096)):
                        break
                    said += heard
                except TimeoutError:
                    continue
        except ConnectionError:
            pass
    return time.monotonic() - begun, said


def test_whoever_dawdles_is_hung_up_on(port: int) -> None:
    whole = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    cases = [(b"", b""), (b"POST /predict HTTP/1.1\r\n", b"x"), (UPLOAD, b"x"), (FORBIDDEN, b"x"), (OPINION, b" "), (whole, b"\r\n")]
    with ThreadPoolExecutor(len(cases)) as pool:
        silent, head, upload, forbidden, opinion, between = pool.map(lambda case: dribble(port, *case), cases)
    assert [took for took, _ in (silent, head, upload, forbidden, opinion, between) if took > LIMIT_S + punctual.GRACE_S + 5] == []
    assert (silent[1], head[1], opinion[1]) == (b"", b"", b"")
    assert b" 408 " in upload[1] and b"the upload took longer" in upload[1]
    assert b" 415 " in forbidden[1] and b" 200 " in between[1]


def test_a_client_that_pauses_between_two_requests_is_not(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as api:

        def ask() -> tuple[int, object]:
            api.request("POST", "/predict", picture(), {"Content-Type": "image/jpeg"})
            with api.getresponse() as answer:
                answer.read()
                return answer.status, api.sock

        first = ask()
        time.sleep(LIMIT_S + punctual.GRACE_S + 0.3)
        assert first == ask() == (200, first[1])
