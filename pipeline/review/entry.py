"""Who may use the review page: whoever has the token of the address that `fieldmark review` prints.

Every account of the machine can reach the loopback interface, so that the interface alone keeps out
nobody. The first page takes the token out of the address into a cookie, which no script can read:
it stays in no history, and no link or picture passes it on. A program sends it as `Authorization:
Bearer TOKEN`.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from pipeline import config

PARAMETER = "token"
BYTES = 32  # random ones, of which the token is the base64
NEEDED = (
    "Open the address that `fieldmark review` prints when it starts: the token in it lets you in."
)


def token(file: Path) -> str:
    """256 random bits, kept in a file for this account alone: an open page goes on where the server
    was ended and started again. Who deletes the file takes the token back.
    """
    kept = config.private(file).read_text(encoding="utf-8").strip()
    if len(kept) < BYTES:
        kept = secrets.token_urlsafe(BYTES)
        file.write_text(f"{kept}\n", encoding="utf-8")
    return kept


def address(url: str, token: str) -> str:
    """The page with the token, as it is printed."""
    return f"{url}/?{urlencode({PARAMETER: token})}"


def refused_or_admitted(request: Request, token: str) -> Response | None:
    """What to answer to who does not show the token, or shows it in the address; None for who may
    go on.
    """
    if request.url.path == "/" and request.method == "GET" and PARAMETER in request.query_params:
        if not _same(request.query_params[PARAMETER], token):
            return PlainTextResponse(NEEDED, 403)
        admitted = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
        # Lax: a link from a terminal in the browser, which is another site, opens the page, too.
        admitted.set_cookie(_cookie(request), token, httponly=True, samesite="lax", path="/")
        return admitted
    if _same(request.cookies.get(_cookie(request), ""), token):
        return None
    if _same(_bearer(request.headers), token):
        return None
    wants_page = request.url.path == "/"
    return PlainTextResponse(NEEDED, 403) if wants_page else JSONResponse({"detail": NEEDED}, 403)


def leading_page(file: Path, url: str, token: str) -> str:
    """The address of a file for this account alone that leads a browser to the page: other accounts
    see with which address a browser is started.
    """
    config.private(file).write_text(
        f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={address(url, token)}"><title>Fieldmark</title>',
        encoding="utf-8",
    )
    return file.absolute().as_uri()


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _cookie(request: Request) -> str:
    """Browsers give all ports of a machine the same cookies, so that each page needs a name."""
    return f"fieldmark-review-{request.url.port or 80}"
