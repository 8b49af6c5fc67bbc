"""Access to the review page by the token in the address that `fieldmark review` prints.

Every account of the machine can reach the loopback interface, so the interface alone keeps nobody
out. The first request moves the token from the address into a cookie that no script can read. So it
stays in no history, and no link or picture passes it on. A program sends `Authorization: Bearer
TOKEN`.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from pipeline import config

PARAMETER = "token"
BYTES = 32  # random bytes; the token is their base64
NEEDED = "Open the address that `fieldmark review` prints when it starts: it contains the token."


def token(file: Path) -> str:
    """256 random bits, stored in a file that only this account can read.

    So an open page still works after a restart of the server. Delete the file to revoke the token.
    """
    stored = config.private(file).read_text(encoding="utf-8").strip()
    if len(stored) < BYTES:
        stored = secrets.token_urlsafe(BYTES)
        file.write_text(f"{stored}\n", encoding="utf-8")
    return stored


def address(url: str, token: str) -> str:
    """The address of the page with the token."""
    return f"{url}/?{urlencode({PARAMETER: token})}"


def refused_or_admitted(request: Request, token: str) -> Response | None:
    """The answer to a request without the token, or with it in the address; None admits it."""
    if request.url.path == "/" and request.method == "GET" and PARAMETER in request.query_params:
        if not _same(request.query_params[PARAMETER], token):
            return PlainTextResponse(NEEDED, 403)
        admitted = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        # Lax: a link from a terminal in the browser, which is another site, must open the page too.
        admitted.set_cookie(_cookie(request), token, httponly=True, samesite="lax", path="/")
        return admitted
    if _same(request.cookies.get(_cookie(request), ""), token):
        return None
    if _same(_bearer(request.headers), token):
        return None
    wants_page = request.url.path == "/"
    return PlainTextResponse(NEEDED, 403) if wants_page else JSONResponse({"detail": NEEDED}, 403)


def leading_page(file: Path, url: str, token: str) -> str:
    """The address of a private file that redirects a browser to the page.

    Other accounts can see the address with which a browser is started; it must not have the token.
    """
    config.private(file).write_text(
        f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={address(url, token)}"><title>Fieldmark</title>',
        encoding="utf-8",
    )
    return file.absolute().as_uri()


def _same(secret: str, token: str) -> bool:
    return secrets.compare_digest(secret.encode("utf-8", "surrogatepass"), token.encode())


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _cookie(request: Request) -> str:
    """Its name has the port: browsers send all ports of a machine the same cookies."""
    return f"fieldmark-review-{request.url.port or 80}"
