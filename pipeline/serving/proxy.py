"""Behind a reverse proxy: the path prefix of this server, and the address of the client.

Plain ASGI, before all other parts. Only the headers of the proxies in conf/ count.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)  # so no other host and no markup


class Behind:
    """Sets prefix, client and scheme of each request.

    `root_path` is the prefix of all paths in the browser, "" for none; the proxy may strip it or
    not. `X-Forwarded-Prefix` from one of `proxies` replaces it. `proxies` are addresses or networks.
    `X-Forwarded-For` and `X-Forwarded-Proto` from one of them set client and scheme, by uvicorn.
    """

    def __init__(self, app: ASGIApp, root_path: str, proxies: Sequence[str]) -> None:
        self._app, self._root_path = app, root_path
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self._forwarded: Any = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trusted = self._is_proxy(scope["client"])
        header = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/") if trusted else ""
        prefix = header if PREFIX.fullmatch(header) else self._root_path
        path = scope["path"]
        if prefix and path == prefix:  # else relative links of the page would lack the prefix
            await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
            return
        if prefix and not path.startswith(f"{prefix}/"):
            path = prefix + path
        inner = {**scope, "root_path": prefix, "path": path}
        await (self._forwarded if trusted else self._app)(inner, receive, send)

    def _is_proxy(self, client: Sequence[Any] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def route(scope: Scope) -> str:
    """The path of the route, without the prefix."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
