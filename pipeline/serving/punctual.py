"""Time limits on slow clients, and a limit on connections.

uvicorn limits only the pause between two requests (timeout_keep_alive), and a single byte ends that limit. It has none for
sending headers or a body, nor for taking an answer; its limit on connections answers in plain text and counts nothing. The
handler refuses a slow upload, but leaves the connection open, and never sees the body of a request refused before it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.serving.guard import FULL

GRACE_S = 1.0  # after the limit, for the handler to refuse a slow upload in words; and for who is one too many, to ask
CROWD = 2  # times so many connections are not even answered


def punctual(limit_s: float, max_connections: int, hung_up: Callable[[str], None] = lambda why: None) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, with so many seconds for the headers, counted from the connection or their first byte, again for the body, and again for the answer.

    A connection beyond the limit has its first request marked as FULL, and is closed after it; `hung_up` hears why
    another one was: "slow request", "slow reading" or "crowd".
    """

    class Punctual(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None
        _too_many = False

        def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio.Transport by name
            super().connection_made(transport)
            if len(self.connections) > CROWD * max_connections:
                self._hang_up("crowd")
                return
            self._too_many = len(self.connections) > max_connections
            self.app_state = {**self.app_state, FULL: self._too_many}
            self._expect(GRACE_S if self._too_many else limit_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            self._taken()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._expect(limit_s)  # bytes between two requests that begin none

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._timer is None:
                self._expect(limit_s)
            if not self.transport.get_write_buffer_size():
                self._taken()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._expect(limit_s + GRACE_S)
            if self._too_many:
                self.cycle.keep_alive = False

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._arrived()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._reading is None:
                self._give()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._give()

        def _expect(self, seconds: float) -> None:
            self._arrived()
            self._timer = self.loop.call_later(seconds, self._hang_up, "slow request")

        def _arrived(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give(self) -> None:
            self._taken()
            self._reading = self.loop.call_later(limit_s, self._see_whether_taken)

        def _taken(self) -> None:
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

        def _see_whether_taken(self) -> None:
            self._reading = None
            if self.transport.get_write_buffer_size():
                self._hang_up("slow reading")

        def _hang_up(self, why: str) -> None:
            hung_up(why)
            self.transport.abort()

    return Punctual
