"""The server as an application; page, monitor and feedback are added as routers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ctypes import c_bool
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST

from pipeline.config.schema import Serving
from pipeline.serving import limits, problems
from pipeline.serving.answers import About, Answer, Health, Images, Problem
from pipeline.serving.batching import Batcher
from pipeline.serving.counters import Counters
from pipeline.serving.feedback import Keeping
from pipeline.serving.guard import DOCS_FILES, LOOPBACK, Guard
from pipeline.serving.keys import Keys
from pipeline.serving.limits import MB, Admission
from pipeline.serving.notes import Notes, Recorder
from pipeline.serving.predicting import Asked, Explain, Judged, Predictor
from pipeline.serving.problems import Refusal
from pipeline.serving.proxy import Behind
from pipeline.serving.swap import CurrentModel, Source

PREDICT = "/predict"
BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "type": "object",
    "properties": {"files": {"type": "array", "items": BINARY["schema"], "minItems": 1}},
    "required": ["files"],
}
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": FORM},
        "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
        "application/octet-stream": BINARY,
        "image/*": BINARY,
    },
}


class Server:
    """The state that the routes share."""

    def __init__(
        self,
        cfg: Serving,
        source: Source,
        explain: Explain | None,
        keeping: Keeping | None,
        draining: c_bool,
    ) -> None:
        self.cfg, self.counters, self.keeping = cfg, Counters(), keeping
        max_bytes, max_decoding = cfg.max_waiting_mb * MB, cfg.max_waiting_decoding_mb * MB
        self.admission = Admission(cfg.max_waiting, round(max_bytes), round(max_decoding))
        self.batcher = Batcher(cfg.max_batch, self._ran)
        self.predictor = Predictor(cfg, self.batcher, explain)
        self.current = CurrentModel(
            source, lambda event: self.counters.versions.labels(event).inc()
        )
        self.counters.watch(self.current, self.admission, self.batcher)
        self.draining = draining
        self.notes: Notes | None = None

    def _ran(self, n: int, seconds: float) -> None:
        self.counters.batch.observe(n)
        self.counters.engine.inc(seconds)

    def count(self, judged: Judged) -> None:
        """Count the images of an answer, and pass on their records."""
        for prediction in judged.answer.predictions:
            verdict = "ood" if prediction.ood else "abstain" if prediction.abstain else "answered"
            self.counters.images.labels(judged.answer.model.version, verdict).inc()
        if self.notes:
            for record, image in zip(judged.records, judged.prepared, strict=True):
                self.notes.add(record, image)

    def ended(self, path: str, status: int, seconds: float) -> None:
        """Count a request to /predict, even if the guard refused it."""
        if path != PREDICT:
            return
        self.counters.requests.labels(status).inc()
        self.counters.seconds.observe(seconds)
        self.counters.tell_others()
        if status != 200 and self.notes:
            self.notes.refuse(self.current.model.version, status)


def create(
    cfg: Serving,
    source: Source,
    *,
    keys: Keys | None = None,
    recorder: Recorder | None = None,
    explain: Explain | None = None,
    keeping: Keeping | None = None,
    routers: Sequence[APIRouter] = (),
    draining: c_bool | None = None,
) -> FastAPI:
    """The application with its first version; raises FieldmarkError where that cannot be loaded.

    `keeping` keeps images for review. `app.state.server` is the state that the routes share.
    Without keys the server answers only under the names of this machine. While `draining` is set,
    perhaps by another process, the server reports that it is stopping.
    """
    server = Server(cfg, source, explain, keeping, c_bool(False) if draining is None else draining)
    app = FastAPIOffline(
        title="Fieldmark",
        description="Predictions of a model in production.",
        lifespan=_lifespan,
        redoc_url=None,
        static_url=DOCS_FILES,
    )
    app.state.server, app.state.recorder = server, recorder
    problems.install(app)
    app.include_router(_predict(server))
    app.include_router(_status(server))
    app.include_router(_health(server))
    for router in routers:
        app.include_router(router)
    _protect(app, server, keys)
    _describe(app)
    return app


def _protect(app: FastAPI, server: Server, keys: Keys | None) -> None:
    cfg = server.cfg
    app.add_middleware(
        Guard,
        keys=keys or Keys({}, 1.0, 1),
        hosts=cfg.hosts or ([] if keys else LOOPBACK),
        streamed=PREDICT,
        ended=server.ended,
    )
    app.add_middleware(Behind, root_path=cfg.root_path, proxies=cfg.proxies)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: Server = app.state.server
    server.notes = Notes(app.state.recorder) if app.state.recorder else None
    server.current.watch(server.cfg.poll_s)
    yield
    server.current.stop()
    server.predictor.close()
    if server.notes:
        server.notes.close()
    if server.keeping:
        server.keeping.close()


def _predict(server: Server) -> APIRouter:
    routes = APIRouter()
    errors = problems.described(400, 401, 403, 408, 413, 415, 422, 429, 503, 504)

    @routes.post(
        PREDICT,
        responses={200: {"model": Answer}, **errors},
        openapi_extra={"requestBody": BODY},
        summary="Predict images",
    )
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=1000, description="how many classes to name")] = 5,
        set: Annotated[bool, Query(description="also name all classes that may be right")] = False,
        explain: Annotated[
            bool, Query(description="also show where the model looked; this takes longer")
        ] = False,
    ) -> Response:
        """One image as the body, or several as files of a form or as base64 in JSON."""
        asked = Asked(top_k=top_k, set=set, explain=explain)
        with server.admission.request() as share:
            files = await limits.read(request, share, server.cfg)
            model = server.current.model
            judged = await server.predictor.answer(model, files, share, asked)
        server.count(judged)
        if server.keeping:
            server.keeping.offer(files, judged.answer, blur_faces=model.preprocess.blur_faces)
        return Response(judged.answer.model_dump_json(by_alias=True), media_type="application/json")

    return routes


def _status(server: Server) -> APIRouter:
    routes = APIRouter(responses=problems.described(400, 401, 403, 429, 503))

    @routes.get("/model", summary="The current model")
    def model() -> About:
        current = server.current
        now = current.model
        return About(
            name=now.name,
            version=now.version,
            classes=now.classes,
            size_px=now.size_px,
            engine=now.engine.name,
            since=current.since,
            thresholds=now.thresholds.model_dump(),
            refused=current.refused,
        )

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    def metrics() -> Response:
        return Response(server.counters.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


def _health(server: Server) -> APIRouter:
    routes = APIRouter(responses=problems.described(400, 401, 403, 429, 503))

    @routes.get("/health/live", summary="Whether the server runs")
    async def live() -> Health:
        return Health(status="live")

    @routes.get(
        "/health/ready",
        summary="Whether the server takes requests",
        responses=problems.described(503),
    )
    async def ready() -> Health:
        if server.draining.value:
            raise Refusal(503, "stopping", "the server is stopping", {"Retry-After": "1"})
        return Health(status="ready")

    return routes


def _describe(app: FastAPI) -> None:
    """Add to the OpenAPI document what FastAPI cannot see: the bodies, and problems as errors."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document["components"]["schemas"]
        for kind in (Images, Problem):
            schemas[kind.__name__] = kind.model_json_schema()
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
