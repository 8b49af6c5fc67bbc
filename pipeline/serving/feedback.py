"""Feedback over HTTP: people's labels of predictions, and the images that belong to them.

Off, nothing is kept. On, one thread decodes and keeps the images after their answer was sent.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooSlow
from hashlib import sha256

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from pipeline.config import schema
from pipeline.feedback.inbox import FOLDER, Inbox, TooLarge, class_name
from pipeline.feedback.inbox import Answer as InboxAnswer
from pipeline.pixels import images
from pipeline.serving import problems
from pipeline.serving.answers import Answer, Prediction
from pipeline.serving.limits import MB
from pipeline.serving.problems import Refusal

log = logging.getLogger(__name__)
WAITING = 64  # images and labels in the queue to the disk
WAITING_MB = 64.0  # the files of those images
PATIENCE_S = 20.0  # for a label to be written
OTHERS_S = 5.0  # for another process to write the image that it answered
AGAIN_S = 0.25  # between two checks for it


class Objection(BaseModel):
    """A person's label for the image of a prediction."""

    id: str = Field(max_length=64, description="of the prediction")
    label: str = Field(
        min_length=1, max_length=500, description="a class, or a new one where that is allowed"
    )


class Possible(BaseModel):
    """Which feedback the server takes."""

    on: bool
    new_classes: bool


class _Image(BaseModel):
    file: bytes
    prediction: Prediction
    model: str
    blur_faces: bool


class Keeping:
    """A bounded queue before the inbox; an image that finds it full is not kept."""

    def __init__(self, cfg: schema.Feedback, max_pixels: int, *, alone: bool = True) -> None:
        """`alone`: no other process keeps images in the same folder."""
        self.new_classes, self._max_pixels = cfg.new_classes, max_pixels
        self._others_s = 0.0 if alone else OTHERS_S
        self._inbox = Inbox(FOLDER.absolute(), round(cfg.max_mb * MB))
        self._left_out = 0  # images that were not kept, since all were
        self._queue: queue.Queue[_Image | tuple[Objection, Future[bool]] | None] = queue.Queue(
            WAITING
        )
        self._thread = threading.Thread(target=self._work, name="feedback", daemon=True)
        self._thread.start()

    def offer(self, files: list[bytes], answer: Answer, *, blur_faces: bool) -> None:
        """Keep the images of an answer if the queue has room; never waits.

        `blur_faces`: blur faces before an image is kept, as for the model.
        """
        model = f"{answer.model.name}/{answer.model.version}"
        for file, prediction in zip(files, answer.predictions, strict=True):
            image = _Image.model_construct(
                file=file, prediction=prediction, model=model, blur_faces=blur_faces
            )
            try:
                if self._on_their_way() + len(file) > WAITING_MB * MB:
                    raise queue.Full
                self._queue.put_nowait(image)
            except queue.Full:
                self._leave_out("more arrive than can be written")

    async def say(self, objection: Objection) -> bool:
        """Store a label; whether its image is kept.

        It waits for all images before it in the queue, and a moment for those of other processes.
        Raises TooSlow or queue.Full.
        """
        end = time.monotonic() + self._others_s
        while not (is_kept := await run_in_threadpool(self._say, objection)):
            if time.monotonic() >= end:
                break
            await asyncio.sleep(AGAIN_S)
        return is_kept

    def _say(self, objection: Objection) -> bool:
        is_kept: Future[bool] = Future()
        self._queue.put((objection, is_kept), timeout=PATIENCE_S)
        return is_kept.result(PATIENCE_S)

    def close(self) -> None:
        """Write the queue, for PATIENCE_S at most."""
        try:
            self._queue.put(None, timeout=PATIENCE_S)
            self._thread.join(PATIENCE_S)
        except queue.Full:
            log.warning("%d images are not kept at the end", self._queue.qsize())

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Image):
                self._keep(item)
            else:
                objection, is_kept = item
                try:
                    self._inbox.say(objection.id, objection.label)
                    is_kept.set_result(True)
                except KeyError:
                    is_kept.set_result(False)
                except (OSError, sqlite3.Error) as error:
                    is_kept.set_exception(error)

    def _keep(self, item: _Image) -> None:
        prediction = item.prediction
        best = prediction.top[0]
        answer = InboxAnswer(item.model, best.class_, best.prob, prediction.abstain)
        try:
            pixels = images.decode(item.file, max_pixels=self._max_pixels)
            if item.blur_faces:
                from pipeline.pixels import faces  # the detector takes a while to load

                pixels = faces.blurred(pixels)
            self._inbox.keep(
                sha256(item.file).hexdigest(),
                pixels,
                answer,
                prediction.id,
                blurred=item.blur_faces,
            )
        except (images.BadImage, TooLarge, OSError, sqlite3.Error) as error:
            self._leave_out(str(error))
            return
        if self._left_out and self._queue.empty():
            log.warning("images are kept again; %d were not kept", self._left_out)
            self._left_out = 0

    def _on_their_way(self) -> int:
        with self._queue.mutex:
            return sum(len(item.file) for item in self._queue.queue if isinstance(item, _Image))

    def _leave_out(self, why: str) -> None:
        """Count it, and log only the first of many."""
        if not self._left_out:
            log.warning("images are not kept: %s", why)
        self._left_out += 1


def router(keeping: Keeping | None) -> APIRouter:
    """GET /feedback says what is taken; POST takes it, or answers 404 where nothing is kept."""
    routes = APIRouter()

    @routes.get(
        "/feedback",
        summary="Which feedback the server takes",
        responses=problems.described(400, 401, 403, 429),
    )
    async def possible() -> Possible:
        return Possible(
            on=keeping is not None, new_classes=keeping is not None and keeping.new_classes
        )

    @routes.post(
        "/feedback",
        status_code=204,
        summary="Give the label of an image",
        responses=problems.described(400, 401, 403, 404, 411, 413, 422, 429, 503),
    )
    async def say(objection: Objection, request: Request) -> None:
        """The image of that prediction appears on the review page with this label."""
        if keeping is None:
            raise Refusal(
                404,
                "feedback-off",
                "this server keeps no images, so it takes no feedback; see `fieldmark serve "
                "--feedback`",
            )
        classes = request.app.state.server.current.model.classes
        label = _label(objection.label, classes, keeping.new_classes)
        await _store(keeping, Objection(id=objection.id, label=label))
        if recorder := request.app.state.recorder:
            recorder.label(objection.id, label)  # for the true accuracy in the monitor

    return routes


async def _store(keeping: Keeping, objection: Objection) -> None:
    try:
        is_kept = await keeping.say(objection)
    except (TooSlow, queue.Full, OSError, sqlite3.Error) as error:
        log.error("feedback cannot be written: %s", error)
        raise Refusal(
            503,
            "feedback",
            "the feedback could not be written; try again shortly",
            {"Retry-After": "5"},
        ) from error
    if not is_kept:
        raise Refusal(404, "forgotten", "that image is not kept any more; send it again")


def _label(label: str, classes: list[str], new_classes: bool) -> str:
    name = class_name(label, classes)
    if not name:
        raise Refusal(422, "label", "a class needs a name of visible characters")
    if name not in classes and not new_classes:
        raise Refusal(422, "label", "there is no such class, and this server takes no new classes")
    return name
