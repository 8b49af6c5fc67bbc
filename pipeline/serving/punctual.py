"""Clients that dawdle: a request that has not arrived in time loses its connection.

uvicorn limits only the pause between two requests (timeout_keep_alive), and one byte ends that limit; it has none for
headers or bodies. The handler's own limit for an upload answers in words, but the connection would live on, and a request
that was refused unread never comes to it.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GRACE_S = 1.0  # after the limit, for the handler to refuse a slow upload in words


def punctual(limit_s: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, with so many seconds for the headers, counted from the connection or their first byte, and again for the body."""

    class Punctual(HttpToolsProtocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:  # uvloop's are not asyncio.Transport by name
            super().connection_made(transport)
            self._expect(limit_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._expect(limit_s)  # bytes between two requests that begin none

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._timer is None:
                self._expect(limit_s)

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self._expect(limit_s + GRACE_S)

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self._arrived()

        def _expect(self, seconds: float) -> None:
            self._arrived()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _arrived(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Punctual
