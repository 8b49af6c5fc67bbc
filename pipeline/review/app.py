"""The HTTP interface of the review page, for one person on this machine.

It writes files, so a page from elsewhere must not reach it: requests under another host name (DNS rebinding) and from
another origin are refused, and the page may load nothing but what comes from here.
"""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipeline.errors import FieldmarkError
from pipeline.review.board import Board
from pipeline.review.pictures import Pictures

PAGE = Path(__file__).parent / "page.html"
HOSTS = ["127.0.0.1", "localhost"]
AT_ONCE = 500  # images in one answer or one action
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class VoteOut(BaseModel):
    by: str
    decision: str
    label: str
    when: str


class Neighbour(BaseModel):
    id: str
    name: str
    label: str
    twin: bool = Field(description="a near-duplicate that bears another label")


class Item(BaseModel):
    """An image to decide on; labels are class names, "" for none."""

    id: str
    name: str
    label: str = Field(description="as given, before any decision")
    suggested_label: str
    suspect_score: float = Field(description="0 to 1; 1 minus the probability of the label")
    kinds: list[str]
    width_px: int
    height_px: int
    split: str
    votes: list[VoteOut]
    conflict: bool
    neighbours: list[Neighbour]


class Progress(BaseModel):
    n: int
    n_decided: int


class Action(BaseModel):
    when: str
    ids: list[str]


class Summary(BaseModel):
    """What the page shows around the image."""

    by: str
    classes: list[str]
    kinds: dict[str, Progress]
    last: Action


class Decision(BaseModel):
    """One person's decision on one or several images; `new` confirms a class that nobody used before."""

    ids: list[str] = Field(min_length=1, max_length=AT_ONCE)
    decision: Literal["keep", "relabel", "drop", "unsure"]
    label: str = Field(default="", max_length=200)
    new: bool = False


class Undo(BaseModel):
    when: str = Field(description="the time that named the action")


class Done(BaseModel):
    when: str
    ids: list[str]
    summary: Summary


class Problem(BaseModel):
    detail: str


Call = Callable[[Request], Awaitable[Response]]


def create_app(project_folder: Path, by: str) -> FastAPI:
    """The application; raises FieldmarkError where label-check has not run."""
    app = FastAPI(title="Fieldmark review", docs_url=None, redoc_url=None, responses={409: {"model": Problem}})
    board, pictures = Board(project_folder, by), Pictures(project_folder / "data" / "ingest")
    page = PAGE.read_text(encoding="utf-8")
    policy = content_security_policy(page)

    @app.middleware("http")
    async def guarded(request: Request, call_next: Call) -> Response:
        if not _from_here(request):
            return JSONResponse({"detail": "Requests from another page are refused."}, 403, HEADERS)
        response = await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(FieldmarkError)
    async def told(_: Request, error: FieldmarkError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.get("/", response_class=HTMLResponse)
    def show() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api/summary")
    def summary() -> Summary:
        board.refresh()
        return _summary(board)

    @app.get("/api/items")
    def items(
        kind: str = "", decided: bool = False, skip: Annotated[int, Query(ge=0)] = 0,
        n: Annotated[int, Query(ge=1, le=AT_ONCE)] = 50, id: Annotated[list[str], Query(max_length=AT_ONCE)] = [],  # noqa: B006
    ) -> list[Item]:  # fmt: skip
        """The next images of a kind of finding, or the named images."""
        board.refresh()
        rows = [board.row(each) for each in id] if id else board.queue(kind, decided=decided)[skip : skip + n]
        return [_item(board, row) for row in rows]

    @app.get("/api/images/{id}")
    def image(id: str, side_px: Annotated[int, Query(ge=32, le=4096)] = 1600) -> Response:
        try:
            picture = pictures.get(id, side_px)
        except KeyError:
            return JSONResponse({"detail": "There is no such image."}, 404)
        # The id is the hash of the bytes, so what was sent once never changes.
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(picture.data, media_type=picture.media_type, headers=headers)

    @app.post("/api/decisions")
    def decide(said: Decision) -> Done:
        when = board.decide(said.ids, said.decision, said.label, new=said.new)
        return Done(when=when, ids=said.ids, summary=_summary(board))

    @app.post("/api/undo")
    def undo(action: Undo) -> Done:
        return Done(when=action.when, ids=board.undo(action.when), summary=_summary(board))

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    return app


def content_security_policy(page: str) -> str:
    """Only the page's own style and script, by their hashes; pictures and requests from here; text is never markup."""
    own = {tag: _hashes(page, tag) for tag in ("style", "script")}
    return (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hashes(page: str, tag: str) -> str:
    parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = (hashlib.sha256(part.encode()).digest() for part in parts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _from_here(request: Request) -> bool:
    """Browsers say where a request comes from; what is no browser says nothing."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site not in (None, "same-origin", "none") and not (request.url.path == "/" and request.method == "GET"):
        return False
    return origin is None or origin == f"http://{request.headers.get('host', '')}"


def _summary(board: Board) -> Summary:
    when, rows = board.last_action()
    kinds = {kind: Progress(n=n, n_decided=decided) for kind, (n, decided) in board.counts().items()}
    ids = [str(board.found.rows["id"].iat[row]) for row in rows]
    return Summary(by=board.by, classes=board.classes(), kinds=kinds, last=Action(when=when, ids=ids))


def _item(board: Board, row: int) -> Item:
    values = board.found.rows.iloc[row]
    votes = [VoteOut(by=vote.by, decision=vote.decision, label=vote.label, when=vote.when) for vote in board.votes.get(row, [])]
    return Item(
        id=values["id"], name=values["name"], label=values["given_label"], suggested_label=values["suggested_label"],
        suspect_score=values["suspect_score"], kinds=board.kinds_of(row), width_px=values["width"],
        height_px=values["height"], split=values["split"], votes=votes, conflict=board.in_conflict(row),
        neighbours=[_neighbour(board, other, twin=twin) for other, twin in board.neighbours(row)],
    )  # fmt: skip


def _neighbour(board: Board, row: int, *, twin: bool) -> Neighbour:
    rows = board.found.rows
    return Neighbour(id=rows["id"].iat[row], name=rows["name"].iat[row], label=board.label_now(row), twin=twin)
