"""From the files of a request to its answer: decode, predict in batches, apply the thresholds."""

import asyncio
import base64
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.schema import Serving
from pipeline.exported.model import Model, Outputs
from pipeline.serving.answers import Answer, Chance, Latency, Named, Prediction
from pipeline.serving.batching import Batcher
from pipeline.serving.decoding import Decoder
from pipeline.serving.limits import Share
from pipeline.serving.problems import Refusal, busy

# The part of its time in which an explanation has the lowest priority; later it waits less.
UNHURRIED_FRACTION = 0.25
# (probabilities of prepared images, one prepared image, index of the class) -> PNG
Explain = Callable[[Callable[[np.ndarray], np.ndarray], np.ndarray, int], bytes]


class Asked(NamedTuple):
    """What a request asks of each image: how many classes, its conformal set, an explanation."""

    top_k: int
    set: bool = False
    explain: bool = False


class Judged(NamedTuple):
    """An answer, its records and its prepared images."""

    answer: Answer
    records: list[dict[str, Any]]
    prepared: list[np.ndarray]


class Predictor:
    """Answers requests; use it from one event loop."""

    def __init__(self, cfg: Serving, batcher: Batcher, explain: Explain | None) -> None:
        self._cfg, self._batcher, self._explain = cfg, batcher, explain
        self._decoder = Decoder(cfg)
        self._lane = ThreadPoolExecutor(1, "explain")
        self._explaining = 0  # images in the lane

    async def answer(self, model: Model, files: list[bytes], share: Share, asked: Asked) -> Judged:
        """The answer to a request.

        Raises Refusal: 422 for a bad image, 429 where decoding or explanations would take too much,
        504 after the time limit.
        """
        start, end = time.perf_counter(), asyncio.get_running_loop().time() + self._cfg.timeout_s
        explain = asked.explain and self._explain is not None
        async with self._in_lane(len(files) if explain else 0):
            prepared, outputs, decoded, ran = await self._predicted(model, files, share, end)
            pictures = (
                await self._explained(model, prepared, outputs, end)
                if explain
                else [None] * len(files)
            )
        predictions = [
            _prediction(model, output, asked, picture)
            for output, picture in zip(outputs, pictures, strict=True)
        ]
        latency = Latency(
            decode=_ms(decoded - start),
            engine=_ms(ran - decoded),
            total=_ms(time.perf_counter() - start),
        )
        answer = Answer(
            model=Named(name=model.name, version=model.version),
            predictions=predictions,
            latency_ms=latency,
        )
        records = [
            _record(model, prediction, output, latency.total)
            for prediction, output in zip(predictions, outputs, strict=True)
        ]
        return Judged(answer, records, prepared)

    async def _predicted(
        self, model: Model, files: list[bytes], share: Share, end: float
    ) -> tuple[list[np.ndarray], list[Outputs], float, float]:
        """Prepared images and their outputs, and the times at which each of the two was ready."""
        try:
            async with asyncio.timeout_at(end):
                prepared = await self._decoder.prepared(model, files, share)
                decoded = time.perf_counter()
                outputs = await asyncio.gather(
                    *(self._batcher.predict(model, image) for image in prepared)
                )
                return prepared, outputs, decoded, time.perf_counter()
        except TimeoutError:
            raise Refusal(
                504,
                "slow",
                f"no answer within {self._cfg.timeout_s:g} seconds",
                {"Retry-After": "1"},
            ) from None

    def close(self) -> None:
        """Call it after the last answer."""
        self._decoder.close()
        self._lane.shutdown(wait=False, cancel_futures=True)
        self._batcher.close()

    @asynccontextmanager
    async def _in_lane(self, n: int) -> AsyncIterator[None]:
        """Room for n images in the lane of explanations; one costs as much as 100 predictions."""
        most = self._cfg.max_explained
        if n > most:
            raise Refusal(
                413,
                "too-many",
                f"explain=true takes at most {most} images per request",
            )
        if self._explaining + n > most:
            raise busy(
                "the server is busy with explanations; try again shortly, or without explain=true",
                2.0,
            )
        self._explaining += n
        try:
            yield
        finally:
            self._explaining -= n

    async def _explained(
        self, model: Model, prepared: list[np.ndarray], outputs: list[Outputs], end: float
    ) -> Sequence[str | None]:
        """One picture per image in base64, computed one after the other; None where time runs out.

        They run in a thread of their own and use the engine with low priority.
        """
        assert self._explain is not None
        loop, given_up = asyncio.get_running_loop(), threading.Event()
        late_at = end - (1 - UNHURRIED_FRACTION) * self._cfg.timeout_s

        def probs(images: np.ndarray) -> np.ndarray:
            if given_up.is_set():
                raise CancelledError
            outputs = self._batcher.stand_aside(model, images, late_at)
            return asyncio.run_coroutine_threadsafe(outputs, loop).result(self._cfg.timeout_s).probs

        try:
            async with asyncio.timeout_at(end):
                work = [
                    loop.run_in_executor(
                        self._lane, self._explain, probs, image, int(output.probs[0].argmax())
                    )
                    for image, output in zip(prepared, outputs, strict=True)
                ]
                return [base64.b64encode(png).decode() for png in await asyncio.gather(*work)]
        except TimeoutError:
            return [None] * len(outputs)
        finally:
            given_up.set()


def _prediction(model: Model, output: Outputs, asked: Asked, explanation: str | None) -> Prediction:
    verdict = model.judge(output, asked.top_k)
    chances = [Chance.model_construct(class_=name, prob=prob) for name, prob in verdict.top]
    return Prediction(
        id=uuid.uuid4().hex,
        top=chances,
        abstain=verdict.abstain,
        ood=verdict.ood,
        ood_score=verdict.ood_score,
        set=verdict.members if asked.set else None,
        explanation=explanation,
    )


def _record(
    model: Model, prediction: Prediction, output: Outputs, total_ms: float
) -> dict[str, Any]:
    return {
        "id": prediction.id,
        "time": time.time(),
        "version": model.version,
        "status": 200,
        "latency_ms": total_ms,
        "class": prediction.top[0].class_,
        "confidence": prediction.top[0].prob,
        "ood": prediction.ood_score,
        "sketch": output.sketch[0],
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
