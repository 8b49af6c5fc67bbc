"""Errors as problem JSON (RFC 9457), without details of the machine."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.serving.answers import Problem

MEDIA_TYPE = "application/problem+json"


class Refusal(Exception):
    """An error for the client; `kind` is a short name that does not change."""

    def __init__(
        self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The HTTP response."""
        title = HTTPStatus(self.status).phrase
        problem = Problem(
            type=f"urn:fieldmark:problem:{self.kind}",
            title=title,
            status=self.status,
            detail=self.detail,
        )
        return Response(problem.model_dump_json(), self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, seconds: float) -> Refusal:
    """429, with the time after which the client may try again."""
    return Refusal(429, "busy", detail, {"Retry-After": str(max(1, round(seconds)))})


def install(app: FastAPI) -> None:
    """Send every error of the application as a problem."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return Refusal(422, "invalid", f"{where}: {first['msg']}").response()

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        return Refusal(error.status_code, "http", str(error.detail), error.headers).response()


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The statuses for the OpenAPI document of a route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }
