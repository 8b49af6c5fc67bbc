"""Clients that send or read slowly, or not at all, or are too many, each through a socket of its
own.
"""

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h11
import pytest
import uvicorn
from exports import tiny_export
from fastapi import APIRouter, FastAPI, Request, Response
from holding import LONG, wait_until
from test_api import picture, settings
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from pipeline.serving import app as serving_app
from pipeline.serving import connection as connections
from pipeline.serving import feedback
from pipeline.serving.swap import Folder

LIMIT_S = 1.0  # enough for what is in time on a busy machine
HEAD = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
UPLOAD, FORBIDDEN, OPINION = (
    HEAD.format(*words).encode()
    for words in (
        ("POST /predict", "image/jpeg"),
        ("POST /predict", "text/plain"),
        ("POST /feedback", "application/json"),
    )
)

LETTERS = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"

BIG = 32 * 10**6  # bytes, more than the buffers of both kernels


class Served(NamedTuple):
    """A running server."""

    port: int
    api: FastAPI
    uvicorn: uvicorn.Server

    @property
    def n_open(self) -> int:
        return len(self.uvicorn.server_state.connections)

    def metric(self, name: str, **labels: str) -> float:
        return self.api.state.server.counters.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def serving(export: Path, limit_s: float, max_connections: int) -> Iterator[Served]:
    big = APIRouter()
    big.add_api_route("/big", lambda: Response(b"x" * BIG))
    api = serving_app.create(
        settings(timeout_s=limit_s),
        Folder(export, "fieldmark"),
        routers=[feedback.router(None), big],
    )
    hung_up = api.state.server.counters.hung_up
    protocol = partial(
        connections.Connection,
        limit_s=limit_s,
        max_connections=max_connections,
        on_hang_up=lambda reason: hung_up.labels(reason).inc(),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            api,
            log_level="error",
            http=protocol,  # type: ignore[arg-type]
            ws="none",
            timeout_keep_alive=3,
            h11_max_incomplete_event_size=connections.HEAD_BYTES,
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield Served(listening.getsockname()[1], api, server)
        finally:  # or a test that fails leaves a thread for which pytest waits without end
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        tiny_export(tmp_path_factory.mktemp("connections") / "export"), LIMIT_S, 100
    ) as made:
        yield made


@pytest.fixture
def port(served: Served) -> int:
    return served.port


def dribble(port: int, start: bytes, drop: bytes) -> tuple[float, bytes]:
    """Send the start, then a drop again and again until the other side hangs up; after how long,
    and what it said.
    """
    begun, said = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.1)
        try:
            client.sendall(start)
            while time.monotonic() - begun < LONG:
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
    cases = [
        (b"", b""),
        (b"POST /predict HTTP/1.1\r\n", b"x"),
        (UPLOAD, b"x"),
        (FORBIDDEN, b"x"),
        (OPINION, b" "),
        (whole, b"\r\n"),
    ]
    with ThreadPoolExecutor(len(cases)) as pool:
        silent, head, upload, forbidden, opinion, between = pool.map(
            lambda case: dribble(port, *case), cases
        )
    assert [
        took
        for took, _ in (silent, head, upload, forbidden, opinion, between)
        if took > LIMIT_S + connections.GRACE_S + 60
    ] == []
    assert (silent[1], head[1], opinion[1]) == (b"", b"", b"")
    assert b" 408 " in upload[1] and b"the upload took longer" in upload[1]
    assert b" 415 " in forbidden[1] and b" 200 " in between[1]


def fill(port: int, start: bytes) -> bytes:
    """Send the start and then no end of letters; what the other side says before it hangs up, where
    that arrives.
    """
    with socket.create_connection(("127.0.0.1", port)) as client:
        with suppress(ConnectionError):
            client.sendall(start)
            for _ in range(10_000):
                client.sendall(b"x" * 10_000)
            pytest.fail("it took 100 MB")
        return take(client)


@pytest.mark.parametrize(
    "start",
    [b"GET /", b"GET / HTTP/1.1\r\nHost: ", LETTERS + b"1\r\nx\r\n0\r\nX: ", LETTERS + b"1;x="],
)
def test_whoever_talks_without_end_before_or_behind_a_body_is_cut_short(
    export: Path, start: bytes
) -> None:
    with serving(export, LONG, 100) as served:
        assert fill(served.port, start).count(b"HTTP/1.1 ") <= 1
        assert served.metric("fieldmark_hung_up_total", reason="long headers") == 1


def test_what_is_no_request_and_too_long_a_head_are_told_so_as_problems(port: int) -> None:
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * connections.HEAD_BYTES
    for start, status in (
        (b"\x16\x03\x01 a greeting in TLS\r\n\r\n", 400),
        (b"FOO / HTTP/1.1\r\n\r\n", 400),
        (long, 431),
    ):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(start)
            head, _, body = take(client).partition(b"\r\n\r\n")
        assert (
            head.startswith(b"HTTP/1.1 %d " % status)
            and b"content-type: application/problem+json" in head
            and b"x-content-type-options" in head
        )
        assert json.loads(body)["status"] == status


def test_a_body_in_chunks_may_be_long(port: int) -> None:
    data = picture() + bytes(3 * connections.HEAD_BYTES)
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (data[i : i + 1000] for i in range(0, len(data), 1000))
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(
            LETTERS.replace(b"text/plain", b"image/jpeg\r\nConnection: close")
            + chunks
            + b"0\r\n\r\n"
        )
        assert b" 200 " in take(client)


@pytest.mark.parametrize(
    "wish",
    [
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "UPGRADE: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    ],
)
def test_a_request_that_asks_for_another_protocol_is_answered_as_one_that_does_not(
    port: int, wish: str
) -> None:
    """Java's HttpClient asks for HTTP/2 unless it is told otherwise."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: "
        f"Upgrade\r\n{wish}\r\nContent-Type: image/jpeg\r\nContent-Length: "
        f"{len(picture())}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        for start in (head.encode(), head.replace("POST", "GET").encode()):
            client.sendall(start)
            client.sendall(picture())
        said = b""
        while said.count(b"HTTP/1.1 ") < 2 and (heard := client.recv(10**6)):
            said += heard
    assert b"HTTP/1.1 200 " in said and b'"red"' in said
    assert b"HTTP/1.1 405 " in said and b"application/problem+json" in said


def test_the_body_of_a_request_for_another_protocol_is_never_taken_for_a_request(port: int) -> None:
    alive = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    wish = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n"
        % len(alive)
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(alive + wish)
        said = client.recv(10**6)
        client.sendall(alive)
        client.sendall(alive.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        said += take(client)
    assert said.count(b'"live"') == 2 and said.count(b"HTTP/1.1 415 ") == 1


def test_the_rest_of_a_body_behind_its_answer_leaves_no_connection_open(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(FORBIDDEN)
        said = client.recv(10**6)
        client.sendall(bytes(1000))
        assert (said + take(client)).count(b"HTTP/1.1 415 ") == 1


BODY = b"x\r\nUpgrade: h2c\r\n\r\nGET /no HTTP/1"
FIRST = b"POST /one HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\n"
SECOND = b"POST /two HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 33\r\n\r\n"
PAIR = FIRST + BODY + SECOND + BODY
WHOLE = [("/one", BODY), ("/two", BODY)]


def pieces(positions: Iterable[int]) -> list[bytes]:
    """The pair of requests, cut at each of the positions."""
    cuts = [0, *sorted(positions), len(PAIR)]
    return [PAIR[start:end] for start, end in pairwise(cuts)]


async def requests_of(parts: list[bytes]) -> list[tuple[str, bytes]]:
    """Path and body of each request that the application gets from bytes that arrive in parts."""
    came: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        came.append((scope["path"], await Request(scope, receive).body()))
        await Response()(scope, receive, send)

    config = uvicorn.Config(app, ws="none", lifespan="off", log_level="critical")
    make = partial(
        connections.Connection,
        limit_s=LONG,
        max_connections=1,
        config=config,
        server_state=ServerState(),
        app_state={},
    )
    ours, theirs = socket.socketpair()
    with theirs:
        transport, connection = await asyncio.get_running_loop().connect_accepted_socket(make, ours)
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)  # the application may answer in between, or not yet
        for _ in WHOLE:
            await asyncio.gather(*connection.tasks)
        transport.abort()
    return came


@pytest.mark.parametrize("n_cuts", [1, 2, len(PAIR) - 1])
def test_a_pair_of_requests_is_the_same_pair_wherever_its_bytes_are_split(n_cuts: int) -> None:
    """Bodies that look like heads stay bodies, also behind a wish for another protocol."""
    everywhere = range(1, len(PAIR))
    some = random.Random(0)
    splits = {
        1: [[at] for at in everywhere],
        2: [some.sample(everywhere, 2) for _ in range(200)],
        len(PAIR) - 1: [list(everywhere)],
    }[n_cuts]

    async def all_splits() -> list[list[tuple[str, bytes]]]:
        return [await requests_of(pieces(split)) for split in splits]

    came = asyncio.run(all_splits())
    assert [split for split, pair in zip(splits, came, strict=True) if pair != WHOLE] == []


def test_of_uvicorn_a_connection_uses_a_few_names_which_are_still_there() -> None:
    """Those that its release may move: then `uvicorn` in pyproject.toml may not be raised."""
    own = {name for name in vars(connections.Connection) if not name.startswith("_")}
    documented = {name for name in dir(asyncio.Protocol) if not name.startswith("_")}
    assert own - documented == {"send_400_response"} <= vars(H11Protocol).keys()
    with closing(asyncio.new_event_loop()) as loop:
        made = H11Protocol(uvicorn.Config(FastAPI(), ws="none"), ServerState(), {}, loop)
    assert isinstance(made.conn, h11.Connection)
    assert (made.connections, made.cycle, made.app_state, made.transport) == (set(), None, {}, None)


def test_a_client_that_pauses_between_two_requests_is_not(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port)) as api:

        def ask() -> tuple[int, object]:
            api.request("POST", "/predict", picture(), {"Content-Type": "image/jpeg"})
            with api.getresponse() as answer:
                answer.read()
                return answer.status, api.sock

        first = ask()
        time.sleep(LIMIT_S + connections.GRACE_S + 0.3)
        assert first == ask() == (200, first[1])


def take(client: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    said = bytearray()
    with suppress(ConnectionError):
        while heard := client.recv(10**6):
            said += heard
    return bytes(said)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_whoever_does_not_take_its_answer_is_hung_up_on(connection: str, served: Served) -> None:
    ask = f"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n\r\n".encode()
    before = served.metric("fieldmark_hung_up_total", reason="slow reading")
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(ask)
        wait_until(
            lambda: served.metric("fieldmark_hung_up_total", reason="slow reading") == before + 1,
            "the server hung up",
        )
        assert 0 < len(take(client)) < BIG


def test_whoever_takes_it_in_time_gets_all_of_it(export: Path) -> None:
    with (
        serving(export, LONG, 100) as served,
        socket.create_connection(("127.0.0.1", served.port)) as client,
    ):
        client.sendall(
            b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            + b"GET /big HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert take(client).count(b"x" * 1000) == 2 * BIG // 1000


def ask(client: socket.socket, line: str) -> bytes:
    """The whole answer on a connection that the server closes."""
    client.sendall(f"{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
    return take(client)


def connect(served: Served, stack: ExitStack, n: int) -> None:
    """So many connections more, open until the stack is left."""
    wanted = served.n_open + n
    for _ in range(n):
        stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
    wait_until(lambda: served.n_open == wanted, "connected")


@pytest.fixture
def full(export: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server with as many connections as it may have, two."""
    monkeypatch.setattr(connections, "GRACE_S", 60.0)
    with serving(export, 60.0, 2) as made, ExitStack() as stack:
        connect(made, stack, 2)
        yield made


def test_a_connection_too_many_is_told_so_and_closed(full: Served) -> None:
    with socket.create_connection(("127.0.0.1", full.port)) as client:
        said = ask(client, "POST /predict")
    assert (
        b" 503 " in said
        and b"application/problem+json" in said
        and b"retry-after: 1" in said.lower()
    )
    wait_until(lambda: full.metric("fieldmark_requests_total", status="503") == 1, "counted")
    wait_until(lambda: full.n_open == 2, "closed")
    with socket.create_connection(("127.0.0.1", full.port)) as client:
        assert b" 200 " in ask(client, "GET /health/live")


def test_a_connection_too_many_that_asks_nothing_is_not_waited_for(
    full: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GRACE_S", 0.1)
    with socket.create_connection(("127.0.0.1", full.port)) as client:
        assert take(client) == b""
    assert full.metric("fieldmark_hung_up_total", reason="slow request") == 1


def test_a_crowd_is_hung_up_on(full: Served) -> None:
    with ExitStack() as stack:
        connect(full, stack, 2)
        with socket.create_connection(("127.0.0.1", full.port)) as client:
            assert take(client) == b""
        assert full.metric("fieldmark_hung_up_total", reason="crowd") == 1
    wait_until(lambda: full.n_open == 2, "closed")


def test_there_is_room_again_when_one_has_gone(export: Path) -> None:
    with serving(export, 60.0, 1) as made:
        with ExitStack() as stack:
            connect(made, stack, 1)
            with socket.create_connection(("127.0.0.1", made.port)) as client:
                assert b" 503 " in ask(client, "GET /model")
        wait_until(lambda: made.n_open == 0, "closed")
        with closing(HTTPConnection("127.0.0.1", made.port)) as api:
            api.request("GET", "/model")
            assert api.getresponse().status == 200
