"""Feedback over HTTP: what a person says of a prediction, and the images that are kept so that it
means something.

Off, nothing is kept at all. On, one thread decodes and keeps what was answered, after the answer
has gone.
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
from pipeline.feedback.inbox import Answer as Kept
from pipeline.pixels import images
from pipeline.serving import problems
from pipeline.serving.answers import Answer, Prediction
from pipeline.serving.limits import MB
from pipeline.serving.problems import Refusal

log = logging.getLogger(__name__)
WAITING, WAITING_MB = (
    64,
    64.0,
)  # images and words on their way to the disk, and the files of those images
PATIENCE_S = 20.0  # for a word to get there
OTHERS_S, AGAIN_S = (
    5.0,
    0.25,
)  # for an image that another process answered to get there, and between two looks


class Objection(BaseModel):
    """What a person says is in the image of a prediction."""

    id: str = Field(max_length=64, description="of the prediction")
    label: str = Field(
        min_length=1, max_length=500, description="a class, or a new one where that is allowed"
    )


class Possible(BaseModel):
    """What feedback is taken."""

    on: bool
    new_classes: bool


class _Image(BaseModel):
    file: bytes
    prediction: Prediction
    model: str
    blur_faces: bool


class Keeping:
    """A bounded queue before the inbox. What finds it full is not kept: answers come first."""

    def __init__(self, cfg: schema.Feedback, max_pixels: int, *, alone: bool = True) -> None:
        """`alone`: no other process keeps images in the same folder."""
        self.new_classes, self._max_pixels, self._others_s = (
            cfg.new_classes,
            max_pixels,
            0.0 if alone else OTHERS_S,
        )
        self._inbox = Inbox(FOLDER.absolute(), round(cfg.max_mb * MB))
        self._left_out = 0  # images since they were last all kept
        self._queue: queue.Queue[_Image | tuple[Objection, Future[bool]] | None] = queue.Queue(
            WAITING
        )
        self._thread = threading.Thread(target=self._work, name="feedback", daemon=True)
        self._thread.start()

    def offer(self, files: list[bytes], answer: Answer, *, blur_faces: bool) -> None:
        """Keep the images of an answer if there is room on the way; never waits. Faces are kept
        only where the model saw them.
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
                self._leave_out("more come than can be written")

    async def say(self, said: Objection) -> bool:
        """Whether the image is kept, and the word with it; behind all images that came before, here
        or a moment ago in another process.

        Raises TooSlow or queue.Full.
        """
        end = time.monotonic() + self._others_s
        while not (kept := await run_in_threadpool(self._say, said)) and time.monotonic() < end:
            await asyncio.sleep(AGAIN_S)
        return kept

    def _say(self, said: Objection) -> bool:
        done: Future[bool] = Future()
        self._queue.put((said, done), timeout=PATIENCE_S)
        return done.result(PATIENCE_S)

    def close(self) -> None:
        """Keep what is on its way, for so long at most."""
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
                said, done = item
                try:
                    self._inbox.say(said.id, said.label)
                    done.set_result(True)
                except KeyError:
                    done.set_result(False)
                except (OSError, sqlite3.Error) as error:
                    done.set_exception(error)

    def _keep(self, item: _Image) -> None:
        said = item.prediction
        answer = Kept(item.model, said.top[0].class_, said.top[0].prob, said.abstain)
        try:
            pixels = images.decode(item.file, max_pixels=self._max_pixels)
            if item.blur_faces:
                from pipeline.pixels import faces  # the detector takes a while to load

                pixels = faces.blurred(pixels)
            self._inbox.keep(
                sha256(item.file).hexdigest(),
                pixels,
                answer,
                said.id,
                blurred=item.blur_faces,
            )
        except (images.BadImage, TooLarge, OSError, sqlite3.Error) as error:
            self._leave_out(str(error))
            return
        if self._left_out and self._queue.empty():
            log.warning("images are kept again; %d were not", self._left_out)
            self._left_out = 0

    def _on_their_way(self) -> int:
        with self._queue.mutex:
            return sum(len(item.file) for item in self._queue.queue if isinstance(item, _Image))

    def _leave_out(self, why: str) -> None:
        """Says so once, not for each of thousands."""
        if not self._left_out:
            log.warning("images are not kept: %s", why)
        self._left_out += 1


def router(keeping: Keeping | None) -> APIRouter:
    """GET /feedback says what is taken; POST takes it, and is refused with 404 where nothing is
    kept.
    """
    routes = APIRouter()

    @routes.get(
        "/feedback",
        summary="What feedback is taken",
        responses=problems.described(400, 401, 403, 429),
    )
    async def possible() -> Possible:
        return Possible(
            on=keeping is not None, new_classes=keeping is not None and keeping.new_classes
        )

    @routes.post(
        "/feedback",
        status_code=204,
        summary="Say what is in an image",
        responses=problems.described(400, 401, 403, 404, 411, 413, 422, 429, 503),
    )
    async def say(said: Objection, request: Request) -> None:
        """The image of that prediction waits on the review page with what was said."""
        if keeping is None:
            raise Refusal(
                404,
                "feedback-off",
                "no images are kept here, so there is nothing to object to; see `fieldmark "
                "serve --feedback`",
            )
        label = _label(
            said.label, request.app.state.server.keeper.model.classes, keeping.new_classes
        )
        try:
            kept = await keeping.say(Objection(id=said.id, label=label))
        except (TooSlow, queue.Full, OSError, sqlite3.Error) as error:
            log.error("feedback cannot be written: %s", error)
            raise Refusal(
                503, "feedback", "it could not be written; try again shortly", {"Retry-After": "5"}
            ) from error
        if not kept:
            raise Refusal(404, "forgotten", "that image is not kept any more; send it again")
        if recorder := request.app.state.recorder:
            recorder.label(said.id, label)  # the monitor's true accuracy

    return routes


def _label(label: str, classes: list[str], new_classes: bool) -> str:
    name = class_name(label, classes)
    if not name:
        raise Refusal(422, "label", "a class needs a name of visible characters")
    if name not in classes and not new_classes:
        raise Refusal(422, "label", "there is no such class, and new ones are not taken here")
    return name
