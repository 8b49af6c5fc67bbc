"""Batches: who goes when, with whom, and on how many cores."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from holding import LONG

from pipeline.exported.model import Outputs
from pipeline.serving.batching import Batcher

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Engine:
    """Answers each image with the value of its pixels, once it may; notes how many there were and
    where they ran.
    """

    def __init__(self) -> None:
        self.may, self.ran = threading.Event(), list[tuple[int, str]]()

    def predict(self, images: np.ndarray, *, lane: bool) -> Outputs:
        self.ran.append((len(images), "lane" if lane else "all cores"))
        assert self.may.wait(LONG)
        values = images.reshape(len(images), -1)[:, :1].astype(np.float32)
        return Outputs(values, values[:, 0], values)


def run(work: Callable[[Any], Coroutine[Any, Any, None]]) -> list[tuple[int, str]]:
    engine = Engine()
    asyncio.run(work(engine))
    return engine.ran


async def tasks(*coroutines: Coroutine[Any, Any, Outputs]) -> list["asyncio.Task[Outputs]"]:
    """Under way in this order."""
    made = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0)
    return made


def test_one_image_has_all_cores_and_what_waits_meanwhile_is_shared_out_to_the_lanes() -> None:
    async def work(engine: Any) -> None:
        batcher = Batcher(8, lanes=2)
        asked = await tasks(*(batcher.predict(engine, IMAGE + n) for n in range(12)))
        assert batcher.waiting == 11
        engine.may.set()
        assert [float((await task).ood[0]) for task in asked] == list(range(12))
        assert batcher.waiting == 0

    ran = run(work)
    assert ran[:3] == [(1, "all cores"), (6, "lane"), (3, "lane")]
    assert sum(n for n, _ in ran) == 12


def test_no_batch_is_larger_than_it_may_be() -> None:
    async def work(engine: Any) -> None:
        batcher = Batcher(3, lanes=1)
        asked = await tasks(*(batcher.predict(engine, IMAGE) for _ in range(8)))
        engine.may.set()
        await asyncio.gather(*asked)

    assert [n for n, _ in run(work)] == [1, 3, 3, 1]


def test_no_lane_starts_beside_what_has_all_cores_and_a_lane_does_not_wait_for_another() -> None:
    async def work(engine: Any) -> None:
        batcher, other = Batcher(8, lanes=3), Engine()
        first = await tasks(batcher.predict(engine, IMAGE))
        asked = await tasks(batcher.predict(other, IMAGE), batcher.predict(engine, IMAGE))  # type: ignore[arg-type]
        assert engine.ran == [(1, "all cores")] and not other.ran
        engine.may.set()
        await asyncio.gather(*first, asked[1])
        assert other.ran == [(1, "lane")] and not asked[0].done()
        late = await tasks(batcher.predict(engine, IMAGE))
        await late[0]
        other.may.set()
        await asked[0]

    assert [where for _, where in run(work)] == ["all cores", "lane", "lane"]


def test_versions_do_not_share_a_batch() -> None:
    async def work(engine: Any) -> None:
        batcher, other = Batcher(8, lanes=1), Engine()
        asked = await tasks(
            *(batcher.predict(which, IMAGE) for which in (engine, engine, engine, other, engine))
        )
        engine.may.set()
        other.may.set()
        await asyncio.gather(*asked)
        assert [n for n, _ in other.ran] == [1]

    assert [n for n, _ in run(work)] == [1, 2, 1]


def test_an_engine_that_fails_is_told_to_all_of_its_batch_and_the_next_batch_goes_on() -> None:
    class Failing(Engine):
        def predict(self, images: np.ndarray, *, lane: bool) -> Outputs:
            super().predict(images, lane=lane)
            raise ValueError("of its insides")

    async def work(engine: Any) -> None:
        batcher, bad = Batcher(8, lanes=1), Failing()
        asked = await tasks(
            *(batcher.predict(bad, IMAGE) for _ in range(3)), batcher.predict(engine, IMAGE)
        )  # type: ignore[arg-type]
        engine.may.set()
        bad.may.set()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(each) for each in told[:3]] == ["the engine failed: ValueError"] * 3
        assert isinstance(told[3], Outputs)

    assert [n for n, _ in run(work)] == [1]


def test_the_batcher_does_not_wait_for_those_who_have_gone() -> None:
    async def work(engine: Any) -> None:
        batcher = Batcher(8, lanes=1)
        first, gone, stays = await tasks(*(batcher.predict(engine, IMAGE) for _ in range(3)))
        gone.cancel()
        await asyncio.sleep(0)
        engine.may.set()
        await asyncio.gather(first, stays)

    assert [n for n, _ in run(work)] == [1, 1]


@pytest.mark.parametrize(
    ("late_at", "order"),
    [(math.inf, [3, 3, 1, 1, 1, 1, 3, 1, 1, 1, 1, 3]), (0.0, [3, 3, 1, 3, 1, 3, 1, 1, 1, 1, 1, 1])],
    ids=["every fifth turn", "every other turn once it is late"],
)
def test_what_stands_aside_gets_an_idle_engine_and_its_turns_of_a_busy_one(
    late_at: float, order: list[int]
) -> None:
    async def work(engine: Any) -> None:
        engine.may.set()
        batcher, patches = Batcher(1, lanes=1), np.stack([IMAGE] * 3)
        await batcher.stand_aside(engine, patches, late_at)
        asked = await tasks(
            *(batcher.stand_aside(engine, patches, late_at) for _ in range(3)),
            *(batcher.predict(engine, IMAGE) for _ in range(8)),
        )
        assert [len((await task).probs) for task in asked] == [3] * 3 + [1] * 8

    assert [n for n, _ in run(work)] == order
