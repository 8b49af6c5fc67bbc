"""The page to which people drop photos: one file, which loads nothing from elsewhere."""

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from pipeline import config
from pipeline.web import pages

PAGE = Path(__file__).parent / "page.html"


def router() -> APIRouter:
    """The page at /, for browsers."""
    page = pages.read(PAGE, config.project())
    headers = {
        "Content-Security-Policy": pages.content_security_policy(page, "'self' blob: data:"),
        "Cache-Control": "no-cache",
    }
    routes = APIRouter(include_in_schema=False)

    @routes.get("/", response_class=HTMLResponse)
    async def show() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @routes.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    return routes
