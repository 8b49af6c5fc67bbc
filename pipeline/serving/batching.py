"""Dynamic batching: an idle engine starts at once; images that arrive meanwhile form a batch.

There is no timer to tune. Under light load an image waits for nothing and has all cores. Under
heavy load each core has a batch of its own (a lane), and batches grow to their limit (as in
Clipper, NSDI 2017, section 4.3, but without a delay). Explanations have low priority: they get an
idle engine, or a small share of a busy one. The share grows once they are late.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.compute.parallel import N_CORES
from pipeline.exported.model import Model, Outputs

TURNS = 4  # batches after which a request of low priority gets its turn, even under load
LATE_TURNS = 1  # the same, for a late request


class _Waiting(NamedTuple):
    model: Model
    images: np.ndarray
    answer: asyncio.Future[Outputs]
    late_at: float


class Batcher:
    """Runs images through the engine, one batch on all cores or one batch on each lane.

    Use it from one event loop.
    """

    def __init__(
        self,
        max_batch: int,
        ran: Callable[[int, float], None] = lambda n, seconds: None,
        *,
        lanes: int = N_CORES,
    ) -> None:
        self._max_batch, self._ran, self._lanes = max_batch, ran, lanes
        self._waiting: deque[_Waiting] = deque()
        self._aside: deque[_Waiting] = deque()
        self._turns = 0  # batches since the last one of low priority
        self._threads = ThreadPoolExecutor(lanes, "engine")
        self._free = lanes

    @property
    def waiting(self) -> int:
        """Images that are not in a batch yet."""
        return len(self._waiting)

    async def predict(self, model: Model, image: np.ndarray) -> Outputs:
        """The outputs (n = 1) of one prepared image; raises RuntimeError where the engine fails.

        A version that has been replaced meanwhile still predicts the images prepared for it.
        """
        return await self._after(self._waiting, model, image[None], math.inf)

    async def stand_aside(
        self, model: Model, images: np.ndarray, late_at: float = math.inf
    ) -> Outputs:
        """The outputs of n prepared images with low priority, which rises at `late_at` (loop time).

        Pass few images at a time: they run as one batch.
        """
        return await self._after(self._aside, model, images, late_at)

    def close(self) -> None:
        """Call it after the last answer."""
        self._threads.shutdown(wait=False)

    async def _after(
        self, queue: deque[_Waiting], model: Model, images: np.ndarray, late_at: float
    ) -> Outputs:
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(model, images, answer, late_at))
        self._start()
        return await answer

    def _start(self) -> None:
        while self._free and (batch := self._take()):
            lane = self._free < self._lanes or bool(self._waiting)
            cores = 1 if lane else self._lanes
            self._free -= cores
            run = asyncio.get_running_loop().run_in_executor(self._threads, self._run, batch, lane)
            run.add_done_callback(partial(self._hand_out, batch, cores))

    def _take(self) -> list[_Waiting]:
        """The first waiting image and those behind it of the same version, up to a lane's share.

        Requests that were given up are skipped.
        """
        batch: list[_Waiting] = []
        most = min(self._max_batch, math.ceil(len(self._waiting) / self._lanes))
        while self._aside and (
            not self._waiting or self._turns >= self._turns_before(self._aside[0])
        ):
            self._turns = 0
            if not (first := self._aside.popleft()).answer.done():
                return [first]
        while self._waiting and len(batch) < most:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif batch and self._waiting[0].model is not batch[0].model:
                break
            else:
                batch.append(self._waiting.popleft())
        self._turns += bool(batch)
        return batch

    def _turns_before(self, aside: _Waiting) -> int:
        return LATE_TURNS if asyncio.get_running_loop().time() >= aside.late_at else TURNS

    def _run(self, batch: list[_Waiting], lane: bool) -> Outputs:
        start = time.perf_counter()
        outputs = batch[0].model.predict(np.concatenate([each.images for each in batch]), lane=lane)
        self._ran(len(outputs.probs), time.perf_counter() - start)
        return outputs

    def _hand_out(self, batch: list[_Waiting], cores: int, done: asyncio.Future[Outputs]) -> None:
        self._free += cores
        self._start()  # first, so that the engine does not wait while answers are handed out
        error, end = done.exception(), 0
        for each in batch:
            start, end = end, end + len(each.images)
            if each.answer.done():
                continue
            if error is not None:
                each.answer.set_exception(
                    RuntimeError(f"the engine failed: {type(error).__name__}")
                )
            else:
                each.answer.set_result(Outputs(*(output[start:end] for output in done.result())))
