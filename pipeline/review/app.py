"""The HTTP interface of the review page, for one person on this machine.

It shows photos and writes files, so no other account and no other site may use it. It refuses
requests without the token (see `entry`), under another host name (DNS rebinding) and from another
origin. The page may load only what this server sends.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipeline import FieldmarkError, config, one_line
from pipeline.review import entry
from pipeline.review.board import Board
from pipeline.review.controls import ControlledBoard
from pipeline.review.learner import Learner
from pipeline.review.messages import (
    AT_ONCE,
    Action,
    Decision,
    Done,
    Group,
    Growth,
    Item,
    Member,
    Neighbour,
    Point,
    Problem,
    Progress,
    Summary,
    Undo,
    VoteOut,
)
from pipeline.review.pictures import Pictures
from pipeline.runs import failures
from pipeline.web import pages

PAGE = Path(__file__).parent / "page.html"
HOSTS = ["127.0.0.1", "localhost"]
HEADERS = {**pages.HEADERS, "Cross-Origin-Opener-Policy": "same-origin"}
Call = Callable[[Request], Awaitable[Response]]


def create_app(
    project_folder: Path, by: str, token: str, *, blur_faces: bool = False, controls: int = 0
) -> FastAPI:
    """The application; requests need the token. controls: how many control images stand among the
    suspects.

    Raises FieldmarkError where label-check has not run.
    """
    app = FastAPI(
        title="Fieldmark review", docs_url=None, redoc_url=None, responses={409: {"model": Problem}}
    )
    board = (
        ControlledBoard(project_folder, by, controls, blur_faces=blur_faces)
        if controls
        else Board(project_folder, by, blur_faces=blur_faces)
    )
    app.state.learner = Learner(board)
    _guard(app, token)
    _show(app, Pictures(project_folder / "data" / "ingest", board.picture))
    _list(app, board, app.state.learner)
    _propose(app, board, app.state.learner)
    _write(app, board)
    return app


def _guard(app: FastAPI, token: str) -> None:
    @app.middleware("http")
    async def guarded(request: Request, call_next: Call) -> Response:
        if pages.from_another_page(
            request.headers, opens_page=request.url.path == "/" and request.method == "GET"
        ):
            return JSONResponse({"detail": "Requests from another page are refused."}, 403, HEADERS)
        response = entry.refused_or_admitted(request, token) or await call_next(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(FieldmarkError)
    async def refused(_: Request, error: FieldmarkError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    async def not_written(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": failures.explain(error) or one_line(error)}, 507)

    for kind in (OSError, sqlite3.Error):
        app.add_exception_handler(kind, not_written)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)


def _show(app: FastAPI, pictures: Pictures) -> None:
    page = pages.read(PAGE, config.project())
    policy = pages.content_security_policy(page)

    @app.get("/", response_class=HTMLResponse)
    def show() -> HTMLResponse:
        return HTMLResponse(
            page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        )

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/api/images/{id}")
    def image(id: str, side_px: Annotated[int, Query(ge=32, le=4096)] = 1600) -> Response:
        try:
            picture = pictures.get(id, side_px)
        except KeyError:
            return JSONResponse({"detail": "There is no such image."}, 404)
        # The id is the hash of the bytes, so the picture of an id never changes.
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(picture.data, media_type=picture.media_type, headers=headers)


def _list(app: FastAPI, board: Board, learner: Learner) -> None:
    @app.get("/api/summary")
    def summary() -> Summary:
        board.refresh()
        return _summary(board)

    @app.get("/api/items")
    def items(
        kind: str = "",
        decided: bool = False,
        skip: Annotated[int, Query(ge=0)] = 0,
        n: Annotated[int, Query(ge=1, le=AT_ONCE)] = 50,
        id: Annotated[list[str], Query(max_length=AT_ONCE)] = [],  # noqa: B006
    ) -> list[Item]:
        """The next images of a kind of finding, or the named images."""
        board.refresh()
        if id:
            return [_item(board, learner, board.row(each)) for each in id]
        rows = (
            learner.one_by_one()
            if kind == "unlabelled" and not decided
            else board.queue(kind, decided=decided)
        )
        return [_item(board, learner, row) for row in rows[skip : skip + n]]


def _propose(app: FastAPI, board: Board, learner: Learner) -> None:
    @app.get("/api/groups")
    def groups(n: Annotated[int, Query(ge=1, le=50)] = 3) -> list[Group]:
        """Groups of unlabelled images to label at once, the most informative first."""
        board.refresh()
        return [_group(board, learner, rows) for rows in learner.groups(n)]

    @app.get("/api/growth")
    def growth() -> Growth:
        from pipeline.review import proposals

        measured = learner.growth
        return Growth(
            measured=[Point(n=n, accuracy=accuracy) for n, accuracy in measured],
            expected=[
                Point(n=n, accuracy=accuracy) for n, accuracy in proposals.expected(measured)
            ],
        )


def _write(app: FastAPI, board: Board) -> None:
    @app.post("/api/decisions")
    def decide(body: Decision) -> Done:
        when = board.decide(body.ids, body.decision, body.label, new=body.new)
        return Done(when=when, ids=body.ids, summary=_summary(board))

    @app.post("/api/undo")
    def undo(action: Undo) -> Done:
        return Done(when=action.when, ids=board.undo(action.when), summary=_summary(board))


def _summary(board: Board) -> Summary:
    when, rows = board.last_action()
    kinds = {
        kind: Progress(n=n, n_decided=decided, expected_wrong=board.expected_wrong(kind))
        for kind, (n, decided) in board.counts().items()
    }
    ids = [board.findings.ids[row] for row in rows]
    return Summary(
        by=board.by,
        classes=board.classes(),
        kinds=kinds,
        last=Action(when=when, ids=ids),
        care=board.care(),
    )


def _item(board: Board, learner: Learner, row: int) -> Item:
    values, shown = board.findings.rows.iloc[row], board.shown(row)
    votes = [
        VoteOut(by=vote.by, decision=vote.decision, label=vote.label, when=vote.when)
        for vote in board.votes.get(row, [])
    ]
    suggested, chance = shown.suggested_label, 0.0
    if not values["given_label"] and row not in board.findings.predicted:
        suggested, chance = learner.proposed(row)
    return Item(
        id=values["id"],
        name=shown.name,
        label=shown.label,
        suggested_label=suggested,
        chance=chance,
        suspect_score=shown.suspect_score,
        kinds=board.kinds_of(row),
        width_px=values["width"],
        height_px=values["height"],
        predicted=board.findings.predicted.get(row, ""),
        split=values["split"],
        votes=votes,
        conflict=board.in_conflict(row),
        neighbours=[_neighbour(board, other, twin=twin) for other, twin in board.neighbours(row)],
    )


def _neighbour(board: Board, row: int, *, twin: bool) -> Neighbour:
    return Neighbour(
        id=board.findings.ids[row],
        name=board.findings.names[row],
        label=board.label_now(row),
        twin=twin,
    )


def _group(board: Board, learner: Learner, rows: list[int]) -> Group:
    proposed = [learner.proposed(row) for row in rows]
    members = [Member(id=board.findings.ids[row], name=board.findings.names[row]) for row in rows]
    return Group(
        label=proposed[0][0],
        probability=sum(chance for _, chance in proposed) / len(rows),
        members=members,
    )
