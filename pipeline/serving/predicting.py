"""From the files of a request to its answer: decode in fair turns, batch, judge by the
thresholds.
"""

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
from pipeline.serving.limits import Visit
from pipeline.serving.problems import Refusal, busy

UNHURRIED_FRACTION = (
    0.25  # of its time, for an explanation; after that it waits for fewer predictions
)
# probabilities of prepared images, one of them, number of the class -> PNG
Explain = Callable[[Callable[[np.ndarray], np.ndarray], np.ndarray, int], bytes]


class Judged(NamedTuple):
    """An answer, with what its records need."""

    answer: Answer
    records: list[dict[str, Any]]
    prepared: list[np.ndarray]


class Predictor:
    """Used from one event loop."""

    def __init__(self, cfg: Serving, batcher: Batcher, explain: Explain | None) -> None:
        self._cfg, self._batcher, self._explain = cfg, batcher, explain
        self._decoder = Decoder(cfg)
        self._lane = ThreadPoolExecutor(1, "explain")
        self._explaining = 0  # images in the lane

    async def answer(
        self, model: Model, files: list[bytes], visit: Visit, *, top_k: int, explain: bool
    ) -> Judged:
        """Raises Refusal for a bad image, (429) where too much is to be decoded or too many
        explanations are asked for, and (504) where it takes too long.
        """
        start, end = time.perf_counter(), asyncio.get_running_loop().time() + self._cfg.timeout_s
        async with self._in_lane(len(files) if explain and self._explain else 0):
            try:
                async with asyncio.timeout_at(end):
                    prepared = await self._decoder.prepared(model, files, visit)
                    decoded = time.perf_counter()
                    outputs = await asyncio.gather(
                        *(self._batcher.predict(model, image) for image in prepared)
                    )
                    ran = time.perf_counter()
            except TimeoutError:
                raise Refusal(
                    504,
                    "slow",
                    f"no answer within {self._cfg.timeout_s:g} seconds",
                    {"Retry-After": "1"},
                ) from None
            pictures = (
                await self._explained(model, prepared, outputs, end)
                if explain and self._explain
                else [None] * len(files)
            )
        said = [
            _prediction(model, output, top_k, picture)
            for output, picture in zip(outputs, pictures, strict=True)
        ]
        took = Latency(
            decode=_ms(decoded - start),
            engine=_ms(ran - decoded),
            total=_ms(time.perf_counter() - start),
        )
        answer = Answer(
            model=Named(name=model.name, version=model.version), predictions=said, latency_ms=took
        )
        records = [
            _record(model, one, output, took.total)
            for one, output in zip(said, outputs, strict=True)
        ]
        return Judged(answer, records, prepared)

    def close(self) -> None:
        """After the last answer."""
        self._decoder.close()
        self._lane.shutdown(wait=False, cancel_futures=True)
        self._batcher.close()

    @asynccontextmanager
    async def _in_lane(self, n: int) -> AsyncIterator[None]:
        """Room for n images in the lane of explanations, each of which costs as much as a hundred
        predictions.
        """
        most = self._cfg.max_explained
        if n > most:
            raise Refusal(
                413,
                "too-many",
                f"where the model looked is shown for at most {most} images of a request",
            )
        if self._explaining + n > most:
            raise busy(
                "as many explanations as may be are being made; try again shortly, or ask "
                "without explain=true",
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
        """One image after the other, in a thread that asks the engine only when nobody else does;
        None where time runs out.
        """
        assert self._explain is not None
        loop, given_up, late_at = (
            asyncio.get_running_loop(),
            threading.Event(),
            end - (1 - UNHURRIED_FRACTION) * self._cfg.timeout_s,
        )

        def probs(images: np.ndarray) -> np.ndarray:
            if given_up.is_set():
                raise CancelledError
            return (
                asyncio.run_coroutine_threadsafe(
                    self._batcher.stand_aside(model, images, late_at), loop
                )
                .result(self._cfg.timeout_s)
                .probs
            )

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


def _prediction(model: Model, output: Outputs, top_k: int, explanation: str | None) -> Prediction:
    top, abstain, ood, score = model.judge(output, top_k)
    chances = [Chance.model_construct(class_=name, prob=prob) for name, prob in top]
    return Prediction(
        id=uuid.uuid4().hex,
        top=chances,
        abstain=abstain,
        ood=ood,
        ood_score=score,
        explanation=explanation,
    )


def _record(model: Model, said: Prediction, output: Outputs, total_ms: float) -> dict[str, Any]:
    return {
        "id": said.id,
        "time": time.time(),
        "version": model.version,
        "status": 200,
        "latency_ms": total_ms,
        "class": said.top[0].class_,
        "confidence": said.top[0].prob,
        "ood": said.ood_score,
        "sketch": output.sketch[0],
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
