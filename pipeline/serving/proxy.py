"""Behind a reverse proxy: the path under which it shows this server, and who the client is.

Plain ASGI, in front of all else. Only proxies that conf/ names by their addresses are believed.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)  # so nothing that names another host, or markup


class Behind:
    """`root_path` is the prefix of all paths as the browser sees them, "" for none, whether the
    proxy takes it off or not; `X-Forwarded-Prefix` of one of `proxies` goes before it.

    `proxies` are addresses or networks. `X-Forwarded-For` and `X-Forwarded-Proto` of one of them
    become the request's client and scheme, as uvicorn does it.
    """

    def __init__(self, app: ASGIApp, root_path: str, proxies: Sequence[str]) -> None:
        self._app, self._root_path = app, root_path
        self._proxies = [ipaddress.ip_network(proxy) for proxy in proxies]
        self._told: Any = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        believed = self._is_proxy(scope["client"])
        said = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/") if believed else ""
        prefix = said if PREFIX.fullmatch(said) else self._root_path
        path = scope["path"]
        if prefix and path == prefix:  # relative links of the page would miss it
            await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
            return
        if prefix and not path.startswith(f"{prefix}/"):
            path = prefix + path
        inner = {**scope, "root_path": prefix, "path": path}
        await (self._told if believed else self._app)(inner, receive, send)

    def _is_proxy(self, client: Sequence[Any] | None) -> bool:
        try:
            address = ipaddress.ip_address(client[0] if client else "")
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def route(scope: Scope) -> str:
    """The path without the prefix: what it is called in this program."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
