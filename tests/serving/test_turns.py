"""Who may come in, and whose image is decoded next."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from holding import LONG
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.serving.limits import Admission
from pipeline.serving.problems import Refusal
from pipeline.serving.turns import Turns

HUGE, SMALL, LARGE = 50, 1, 25


class Decoder:
    """Calls that wait until they may go on, and what was going on when each began."""

    def __init__(self, turns: Turns) -> None:
        self.turns, self.may, self.began = turns, threading.Event(), list[str]()
        self.at_once: list[list[int]] = []  # costs
        self._now: list[int] = []
        self._lock = threading.Lock()

    def call(self, name: str, cost: int) -> str:
        with self._lock:
            self.began.append(name)
            self._now.append(cost)
            self.at_once.append(list(self._now))
        assert self.may.wait(LONG)
        with self._lock:
            self._now.remove(cost)
        return name

    async def request(self, name: str, costs: Sequence[int]) -> list[str]:
        with self.turns.request() as request:
            work = [request.run(cost, lambda cost=cost: self.call(name, cost)) for cost in costs]
            return list(await asyncio.gather(*work))

    async def requests(self, *asked: tuple[str, Sequence[int]]) -> "list[asyncio.Task[list[str]]]":
        """They have all asked when this returns."""
        tasks = [asyncio.create_task(self.request(*each)) for each in asked]
        await asyncio.sleep(0)  # each task up to its request
        await asyncio.sleep(0)  # and each of its calls
        return tasks

    async def have_begun(self, n: int) -> None:
        async with asyncio.timeout(LONG):
            while len(self.began) < n:
                await asyncio.sleep(0.001)


def decoding(
    n_threads: int, max_bytes: int, work: Callable[[Decoder], Coroutine[Any, Any, None]]
) -> Decoder:
    decoder = Decoder(Turns(n_threads, max_bytes, LARGE))
    asyncio.run(work(decoder))
    decoder.turns.close()
    return decoder


def test_a_small_image_waits_for_none_of_thirty_two_requests_of_huge_ones() -> None:
    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(*((f"hostile {n}", [HUGE] * 32) for n in range(32)))
        tasks += await decoder.requests(("small", [SMALL]))
        decoder.may.set()
        await asyncio.gather(*tasks)

    decoder = decoding(1, 2 * HUGE, work)
    assert decoder.began.index("small") == 1  # behind that which ran already
    assert len(decoder.began) == 32 * 32 + 1


def test_requests_of_many_images_take_turns() -> None:
    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(("first", [HUGE] * 3), ("second", [HUGE] * 3))
        decoder.may.set()
        await asyncio.gather(*tasks)

    assert decoding(1, HUGE, work).began == ["first", "second"] * 3


def test_a_huge_image_is_not_passed_by_small_ones_for_ever() -> None:
    """Not by more of them than would have its cost, for each of the two that share."""

    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(("held", [HUGE]))
        tasks += await decoder.requests(("huge", [HUGE]))
        following = await decoder.requests(("small", [SMALL]))
        decoder.may.set()
        while "huge" not in decoder.began:
            tasks += following
            following = await decoder.requests(("small", [SMALL]))
            await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*tasks, *following)

    assert decoding(1, HUGE, work).began.count("small") <= 2 * HUGE + 2


def test_one_thread_is_left_to_what_is_not_large() -> None:
    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(("huge", [HUGE] * 3))
        tasks += await decoder.requests(("small", [SMALL]))
        await decoder.have_begun(2)
        assert decoder.began == ["huge", "small"]
        decoder.may.set()
        await asyncio.gather(*tasks)

    decoding(2, 3 * HUGE, work)


def test_what_is_let_ahead_leaves_room_for_the_first() -> None:
    """Otherwise small ones would keep the budget from ever being free enough."""

    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(("held", [60]))
        tasks += await decoder.requests(("first", [80, 15, 15]))
        await decoder.have_begun(2)
        assert decoder.at_once == [[60], [60, 15]]
        decoder.may.set()
        await asyncio.gather(*tasks)

    assert [each for each in decoding(4, 100, work).at_once if sum(each) > 100] == []


def test_a_request_that_is_given_up_leaves_its_place_to_others() -> None:
    async def work(decoder: Decoder) -> None:
        held, given_up, other = await decoder.requests(
            ("held", [HUGE]), ("given up", [HUGE] * 9), ("other", [HUGE])
        )
        given_up.cancel()
        await asyncio.sleep(0)
        decoder.may.set()
        await asyncio.gather(held, other)

    assert decoding(1, HUGE, work).began == ["held", "other"]


def test_what_a_call_raises_comes_to_who_asked() -> None:
    async def work(decoder: Decoder) -> None:
        with decoder.turns.request() as request:
            with pytest.raises(ZeroDivisionError):
                await request.run(SMALL, lambda: 1 // 0)
            assert await request.run(SMALL, lambda: "next") == "next"

    decoding(1, HUGE, work)


@settings(max_examples=40, deadline=None)
@given(
    costs=st.lists(st.lists(st.integers(1, 120), max_size=6), min_size=1, max_size=6),
    n_threads=st.integers(1, 4),
)
def test_all_is_decoded_and_never_more_at_once_than_budget_and_threads_allow(
    costs: list[list[int]], n_threads: int
) -> None:
    async def work(decoder: Decoder) -> None:
        tasks = await decoder.requests(*((str(n), each) for n, each in enumerate(costs)))
        decoder.may.set()
        answers = await asyncio.gather(*tasks)
        assert answers == [[str(n)] * len(each) for n, each in enumerate(costs)]

    for running in decoding(n_threads, 100, work).at_once:
        large = [cost for cost in running if cost > LARGE]
        assert len(running) <= n_threads
        assert len(large) <= max(1, n_threads - 1)
        assert sum(min(cost, 100) for cost in running) <= 100


def fill(admission: Admission, stack: ExitStack, **each: int) -> int:
    """Requests that bring so much, until one is turned away; how many got in."""
    for n in range(10_000):
        with ExitStack() as one:
            share = one.enter_context(admission.request())
            try:
                share.add(**each)
            except Refusal as refusal:
                assert refusal.status == 429
                return n
            stack.enter_context(one.pop_all())
    raise AssertionError("admission has no limit")


@pytest.mark.parametrize("each", [{"images": 31}, {"size": 20}, {"decoding": 300}])
def test_however_much_large_requests_bring_small_ones_get_in(each: dict[str, int]) -> None:
    admission = Admission(256, 256, 1600)
    with ExitStack() as stack:
        assert fill(admission, stack, **each) >= 2
        with admission.request() as small:
            small.add(size=1, decoding=5)


def test_single_images_fill_the_server_to_its_limit() -> None:
    admission = Admission(6, 100, 100)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(admission.request())
        with pytest.raises(Refusal), admission.request():
            pass
        assert admission.images == 6
    assert admission.images == 0


def test_a_request_that_is_alone_may_take_all_and_none_may_take_more() -> None:
    most = 100_000_000
    admission = Admission(32, most, most)
    with admission.request() as alone:
        alone.add(images=31, size=most, decoding=most)
    with (
        admission.request() as alone,
        pytest.raises(Refusal, match="101 MB .* limit is 100 MB") as told,
    ):
        alone.add(decoding=most + 10**6)
    assert told.value.status == 413
