"""Limits on clients that are slow, that talk too much before they ask or after, or that are too
many.

uvicorn limits only the pause between two requests (timeout_keep_alive), and a single byte ends that
limit. It has none for sending headers or a body, nor for taking an answer; its limit on connections
answers in plain text and counts nothing. The handler refuses a slow upload, but leaves the
connection open, and never sees the body of a request refused before it. Of headers httptools takes
any number of any length, before a body and behind one in chunks; and of a request that asks for an
upgrade, as Java's HttpClient does to HTTP/2 unless told otherwise, it leaves out the body.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipeline.serving.guard import FULL
from pipeline.serving.problems import Refusal
from pipeline.web import pages

# after the limit, for the handler to refuse a slow upload in words; and for who is one too many, to
# ask
GRACE_S = 1.0
MOST_TALK = 64 * 1024  # bytes in a row that are no body; a little more where they come at once
UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
CROWD = 2  # times so many connections are not even answered


class Punctual(HttpToolsProtocol):
    """uvicorn's protocol, with so many seconds for the headers, counted from the connection or
    their first byte, again for the body, and again for the answer.

    A connection beyond the limit has its first request marked as FULL, and is closed after it;
    `hung_up` hears why another one was: "slow request", "slow reading", "long headers" or "crowd".
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
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._too_many = False
        self._talk = 0  # bytes since the last that were body, or ended the headers or the request

    def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio.Transport by name
        super().connection_made(transport)
        if len(self.connections) > CROWD * self._max_connections:
            self._hang_up("crowd")
            return
        self._too_many = len(self.connections) > self._max_connections
        self.app_state = {**self.app_state, FULL: self._too_many}
        self._expect(GRACE_S if self._too_many else self._limit_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._talk += len(data)
        super().data_received(self._without_upgrade(data))
        if self._talk > MOST_TALK and not self.transport.is_closing():
            self._interrupt()
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect(self._limit_s)  # bytes between two requests that begin none

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timer is None:
            self._expect(self._limit_s)
        if not self.transport.get_write_buffer_size():
            self._taken()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._talk = 0
        self._expect(self._limit_s + GRACE_S)
        if (
            self._too_many or self.parser.should_upgrade()
        ):  # what follows the latter would be taken for another request
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._talk = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._talk = 0
        self._arrived()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reading is None:
            self._give()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._give()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "http", "this is no HTTP request that could be read"))

    def _without_upgrade(self, data: bytes) -> bytes:
        """Where a head may be, its `Upgrade` under another name: a server may ignore it (RFC 9110,
        7.8), but httptools then leaves out the body.
        """
        if self.cycle is not None and self.cycle.more_body:
            return data
        end = data.find(b"\r\n\r\n")
        found = UPGRADE.search(data, 0, len(data) if end < 0 else end)
        return (
            data
            if found is None
            else data[: found.start()] + b"\r\nX-Upgrade:" + data[found.end() :]
        )

    def _refuse(self, refusal: Refusal) -> None:
        """Without the application, which has no request to answer."""
        answer = refusal.response()
        own = [
            (name.lower().encode(), value.encode())
            for name, value in {**pages.HEADERS, "Connection": "close"}.items()
        ]
        lines = [
            name + b": " + value + b"\r\n"
            for name, value in [*self.server_state.default_headers, *answer.raw_headers, *own]
        ]
        self.transport.write(STATUS_LINE[refusal.status] + b"".join(lines) + b"\r\n" + answer.body)
        self.transport.close()

    def _interrupt(self) -> None:
        """A refusal only where no other answer is under way or has been given to the same
        request.
        """
        before = self.cycle
        if before is None or (before.response_complete and before.scope is not self.scope):
            self._refuse(
                Refusal(431, "headers", f"the headers are longer than {MOST_TALK // 1024} KiB")
            )
            self._hung_up("long headers")
        else:
            self._hang_up("long headers")

    def _expect(self, seconds: float) -> None:
        self._arrived()
        self._timer = self.loop.call_later(seconds, self._hang_up, "slow request")

    def _arrived(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give(self) -> None:
        self._taken()
        self._reading = self.loop.call_later(self._limit_s, self._see_whether_taken)

    def _taken(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _see_whether_taken(self) -> None:
        self._reading = None
        if self.transport.get_write_buffer_size():
            self._hang_up("slow reading")

    def _hang_up(self, why: str) -> None:
        self._hung_up(why)
        self.transport.abort()
