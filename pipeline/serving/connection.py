"""Limits on one connection: on clients that are slow, that send headers without end, or that are
too many.

uvicorn limits the size of what is no body (`h11_max_incomplete_event_size`) and the pause between
two requests (`timeout_keep_alive`). It has no limit of time for headers, for a body or for taking
an answer; its limit of connections answers in plain text, and health checks too. A middleware sees
neither slow headers nor slow readers. A reverse proxy does (see nginx.conf.example); what is here
protects a server without one.

The bytes are h11's affair alone: it keeps the body of a request that asks for an upgrade, as Java's
HttpClient does to HTTP/2 unless told otherwise, which httptools leaves to be read as a request.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.serving.guard import FULL
from pipeline.serving.problems import Refusal
from pipeline.web import pages

# After the limit, for the handler to refuse a slow upload in words; and for a connection too many
# to send its request.
GRACE_S = 1.0
TICK_S = 0.25  # between two looks at what a connection waits for
HEAD_BYTES = 64 * 1024  # of a head, of the head of a chunk, and of what follows the last chunk
CROWD = 2  # times so many connections are not even answered


class Awaited(NamedTuple):
    """What a client has to do next, within so many seconds, for the same request."""

    lest: str  # the reason with which it is disconnected
    limit_s: float
    request: object


class Connection(H11Protocol):
    """uvicorn's protocol, with `limit_s` seconds for the headers, counted from the connection or
    their first byte, again for the body, and again for the answer.

    The requests of a connection beyond `max_connections` are marked as FULL. `hung_up` is called
    with the reason why a connection was ended: "slow request", "slow reading", "long headers",
    "idle" or "crowd". Of uvicorn's class, only asyncio's own methods and `send_400_response` are overridden.
    """

    def __init__(
        self,
        *,
        limit_s: float,
        max_connections: int,
        hung_up: Callable[[str], None] = lambda why: None,
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self._limit_s, self._max_connections, self._hung_up = limit_s, max_connections, hung_up
        self._awaited: Awaited | None = None
        self._since = 0.0
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio.Transport by name
        super().connection_made(transport)
        n_open = len(self.connections)
        if n_open > CROWD * self._max_connections:
            self._hang_up("crowd")
            return
        self.app_state = {**self.app_state, FULL: n_open > self._max_connections}
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, refused as a problem; where an answer is under way, only the end."""
        too_long = len(self.conn.trailing_data[0]) > HEAD_BYTES
        if too_long:
            self._hung_up("long headers")
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        elif too_long:
            text = f"the headers are longer than {HEAD_BYTES // 1024} KiB"
            self._refuse(Refusal(431, "headers", text))
        else:
            self._refuse(Refusal(400, "http", "this is no HTTP request that could be read"))

    def _refuse(self, refusal: Refusal) -> None:
        """Without the application, which has no request to answer."""
        answer = refusal.response()
        own = {**pages.HEADERS, "Connection": "close"}.items()
        lines = [(name.lower().encode(), value.encode()) for name, value in own]
        head = h11.Response(
            status_code=refusal.status,
            headers=[*answer.raw_headers, *lines],
            reason=HTTPStatus(refusal.status).phrase.encode(),
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look(self) -> None:
        """Hang up on whoever has been awaited for too long; look again in a moment."""
        awaited, now = self._now_awaited(), self.loop.time()
        if awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif awaited is not None and now - self._since > awaited.limit_s:
            self._hang_up(awaited.lest)
            return
        self._next_look = self.loop.call_later(TICK_S, self._look)

    def _now_awaited(self) -> Awaited | None:
        if self.transport.get_write_buffer_size():
            return Awaited("slow reading", self._limit_s, self.cycle)
        if self.conn.their_state is h11.SEND_BODY:
            return Awaited("slow request", self._limit_s + GRACE_S, self.cycle)
        if self.conn.their_state is not h11.IDLE:
            return None
        if self.cycle is None or self.conn.trailing_data[0]:
            limit_s = GRACE_S if self.app_state[FULL] else self._limit_s
            return Awaited("slow request", limit_s, self.cycle)
        # uvicorn's own timer ends where the rest of a body comes after its answer
        return Awaited("idle", self.config.timeout_keep_alive + GRACE_S, self.cycle)

    def _hang_up(self, why: str) -> None:
        self._hung_up(why)
        self.transport.abort()
