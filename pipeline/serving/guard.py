"""Checks before every request (host, origin, key, rate, size) and headers after it.

It answers with a problem where something fails, and reports each status. Plain ASGI: a middleware
class of Starlette would cost more time than all these checks.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.keys import Keys
from pipeline.serving.problems import Refusal, busy
from pipeline.serving.proxy import route
from pipeline.web import pages

log = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
DOCS_FILES = "/docs-files"  # scripts and styles of the page /docs
FULL = "full"  # in the state of a request on an excess connection
LIVE = "/health/live"  # answered even then: a server under load is not dead
OPEN = frozenset({"/", LIVE, "/health/ready", "/docs", "/openapi.json", "/favicon.ico"})
BROWSED = "/monitor"  # opened in a browser, which can ask its user for a key
MAX_BODY_BYTES = 64 * 1024  # where a body is not streamed: FastAPI reads it whole before any check
CHALLENGE = 'Basic realm="Fieldmark: any name, and an API key as the password"'


class Guard:
    """Checks requests before the application sees them.

    `hosts`: the host names it answers to, any when empty. Paths in OPEN need no key. The path
    `streamed` limits its own body. `ended` is called after each answer with path, status, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        hosts: Sequence[str],
        streamed: str,
        ended: Callable[[str, int, float], None],
    ) -> None:
        self._app, self._keys, self._hosts = app, keys, frozenset(hosts)
        self._streamed, self._ended = streamed, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in pages.HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("state", {}).get(FULL):
                    headers["connection"] = "close"
            await send(message)

        try:
            self._check(scope)
            await self._app(_as_get(scope), receive, guarded)
        except Refusal as refusal:
            await refusal.response()(scope, receive, guarded)
        except asyncio.CancelledError:  # by uvicorn, at the end of its time to stop
            if not status:
                await Refusal(
                    503, "stopping", "the server is stopping", {"Retry-After": "1"}
                ).response()(scope, receive, guarded)
        except Exception:
            log.exception("a request failed")
            if not status:
                await Refusal(500, "internal", "the server failed; its log says why").response()(
                    scope, receive, guarded
                )
        finally:
            if status:
                self._ended(route(scope), status, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        path = route(scope)
        if scope.get("state", {}).get(FULL) and path != LIVE:
            raise Refusal(
                503,
                "full",
                "the server has too many connections; try again shortly",
                {"Retry-After": "1"},
            )
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Refusal(  # RFC 9112, 6.1: a proxy in front may see another end of the body
                400, "framing", "say how long the body is in one way only", {"Connection": "close"}
            )
        if self._hosts and _name(headers.get("host", "")) not in self._hosts:
            raise Refusal(400, "host", "this server does not answer under that host name")
        if pages.from_another_page(headers, opens_page=path == "/" and scope["method"] == "GET"):
            raise Refusal(403, "origin", "requests from another page are refused")
        if self._keys and path not in OPEN and not path.startswith(f"{DOCS_FILES}/"):
            self._check_key(headers, path)
        if path != self._streamed:
            _check_size(headers)

    def _check_key(self, headers: Headers, path: str) -> None:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        keys = {"bearer": credentials.strip(), "basic": _password(credentials)}
        key = headers.get("x-api-key") or keys.get(scheme.lower(), "")
        name = self._keys.name(key) if key else None
        if name is None:
            why = (
                "that API key is not known"
                if key
                else "an API key is needed, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
            )
            raise Refusal(
                401, "key", why, {"WWW-Authenticate": CHALLENGE if path == BROWSED else "Bearer"}
            )
        if wait := self._keys.wait_s(name):
            raise busy("this API key sends requests faster than allowed", wait)


def _as_get(scope: Scope) -> Scope:
    """HEAD, with which load balancers ask for health, is GET; uvicorn leaves the body out."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def _check_size(headers: Headers) -> None:
    if "transfer-encoding" in headers:
        raise Refusal(411, "length", "send the length of the body as Content-Length")
    length = headers.get("content-length", "0")
    if len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
        raise Refusal(413, "too-large", f"the body is larger than {MAX_BODY_BYTES // 1024} KiB")


def _password(credentials: str) -> str:
    """The password of `name:password` in base64 (RFC 7617), "" where it is invalid."""
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _name(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
