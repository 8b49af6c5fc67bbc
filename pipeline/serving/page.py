"""The page on which photos are dropped: one file, which loads nothing from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from pipeline.pages import content_security_policy

PAGE = Path(__file__).parent / "page.html"


def router() -> APIRouter:
    """The page at /, for browsers; the rest of the interface is for them and for programs."""
    page = PAGE.read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": content_security_policy(page, "'self' blob: data:"), "Cache-Control": "no-cache"}
    routes = APIRouter(include_in_schema=False)

    @routes.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @routes.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    return routes
