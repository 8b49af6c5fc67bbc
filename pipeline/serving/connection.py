"""Limits per connection: on slow clients, endless headers and too many connections.

uvicorn limits the size of headers (`h11_max_incomplete_event_size`) and the pause between two
requests (`timeout_keep_alive`). It has no time limit for headers, for a body or for reading an
answer. Its limit on connections answers in plain text, and refuses health checks too. A middleware
sees neither slow headers nor slow readers. A reverse proxy does (see nginx.conf.example); this
module protects a server without one.

Only h11 parses the bytes. It keeps the body of a request that asks for an upgrade, as Java's
HttpClient does to HTTP/2 by default; httptools would parse that body as another request.
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

# After the limit: the handler needs time to refuse a slow upload in words, and an excess connection
# needs time to send its request.
GRACE_S = 1.0
TICK_S = 0.25  # between two checks of a connection
HEAD_BYTES = 64 * 1024  # of the headers, of a chunk's header, and of the trailers
CROWD = 2  # connections beyond this multiple of the limit get no answer


class Awaited(NamedTuple):
    """What the client has to do next within `limit_s` seconds, for the same request."""

    reason: str  # for which it is disconnected
    limit_s: float
    request: object


class Connection(H11Protocol):
    """uvicorn's protocol with `limit_s` seconds each for the headers, the body and the answer.

    The time for headers starts with the connection or with their first byte. Requests of a
    connection beyond `max_connections` are marked as FULL. `on_hang_up` is called with the reason
    for which a connection was closed: "slow request", "slow reading", "long headers", "idle" or
    "crowd". Only asyncio's own methods and `send_400_response` of uvicorn's class are overridden.
    """

    def __init__(
        self,
        *,
        limit_s: float,
        max_connections: int,
        on_hang_up: Callable[[str], None] = lambda reason: None,
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self._limit_s, self._max_connections = limit_s, max_connections
        self._on_hang_up = on_hang_up
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
        """Refuse invalid HTTP as a problem; close the connection where an answer has started."""
        too_long = len(self.conn.trailing_data[0]) > HEAD_BYTES
        if too_long:
            self._on_hang_up("long headers")
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
        elif too_long:
            text = f"the headers are longer than {HEAD_BYTES // 1024} KiB"
            self._refuse(Refusal(431, "headers", text))
        else:
            self._refuse(Refusal(400, "http", "this is not a valid HTTP request"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, which has no request."""
        answer = refusal.response()
        own = {**pages.HEADERS, "Connection": "close"}.items()
        own_headers = [(name.lower().encode(), value.encode()) for name, value in own]
        head = h11.Response(
            status_code=refusal.status,
            headers=[*answer.raw_headers, *own_headers],
            reason=HTTPStatus(refusal.status).phrase.encode(),
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _look(self) -> None:
        """Close the connection where the client takes too long, else check again soon."""
        awaited, now = self._now_awaited(), self.loop.time()
        if awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif awaited is not None and now - self._since > awaited.limit_s:
            self._hang_up(awaited.reason)
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
        # uvicorn's own timer stops when the rest of a body arrives after the answer.
        return Awaited("idle", self.config.timeout_keep_alive + GRACE_S, self.cycle)

    def _hang_up(self, reason: str) -> None:
        self._on_hang_up(reason)
        self.transport.abort()
