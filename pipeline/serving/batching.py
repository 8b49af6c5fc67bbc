"""Batches that make themselves: an idle engine starts at once, and what waits meanwhile goes together.

There is no timer to tune: under light load an image waits for nothing, under heavy load batches grow to their limit
(as in Clipper, NSDI 2017, section 4.3, with the delay left out).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from pipeline.serving.model import Model, Outputs


class _Waiting(NamedTuple):
    model: Model
    image: np.ndarray
    answer: asyncio.Future[Outputs]


class Batcher:
    """Runs images through the engine, never two batches at once; used from one event loop."""

    def __init__(self, max_batch: int, ran: Callable[[int, float], None] = lambda n, seconds: None) -> None:
        self._max_batch, self._ran = max_batch, ran
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, "engine")
        self._busy = False

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet."""
        return len(self._waiting)

    async def predict(self, model: Model, image: np.ndarray) -> Outputs:
        """The outputs (n = 1) of one prepared image; raises RuntimeError where the engine fails.

        A version that has been replaced meanwhile still answers what was prepared for it.
        """
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(model, image, answer))
        if not self._busy:
            self._start()
        return await answer

    def close(self) -> None:
        """After the last answer."""
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        batch = self._take()
        self._busy = bool(batch)
        if batch:
            run = asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
            run.add_done_callback(lambda done: self._hand_out(batch, done))

    def _take(self) -> list[_Waiting]:
        """The longest waiting, with those behind it of the same version; who has gone away is passed over."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._max_batch:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif batch and self._waiting[0].model is not batch[0].model:
                break
            else:
                batch.append(self._waiting.popleft())
        return batch

    def _run(self, batch: list[_Waiting]) -> Outputs:
        start = time.perf_counter()
        outputs = batch[0].model.predict(np.stack([each.image for each in batch]))
        self._ran(len(batch), time.perf_counter() - start)
        return outputs

    def _hand_out(self, batch: list[_Waiting], done: asyncio.Future[Outputs]) -> None:
        self._start()  # first, so that the engine does not wait for what is done with the answers
        error = done.exception()
        for i, each in enumerate(batch):
            if each.answer.done():
                continue
            if error is not None:
                each.answer.set_exception(RuntimeError(f"the engine failed: {type(error).__name__}"))
            else:
                each.answer.set_result(Outputs(*(output[i : i + 1] for output in done.result())))
