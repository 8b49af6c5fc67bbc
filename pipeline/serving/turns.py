"""Turns at decoding: few threads and a memory budget, shared fairly among requests.

Weighted fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989): the next call is the one that
would end first if all requests ran at the same time, each with an equal share. So a small image
passes thirty requests with many huge images, and waits only for the calls that already run.
"""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
LARGE_BYTES = 64_000_000  # about ten megapixels; larger calls leave one thread free


class _Work(NamedTuple):
    end: float  # in virtual time
    number: int
    cost: int  # bytes of memory while it runs
    call: Callable[[], Any]
    result: "asyncio.Future[Any]"


class Turns:
    """Runs calls in `n_threads` threads within a budget of `max_bytes`; use it from one event loop.

    Of several threads, one is reserved for calls of up to `large` bytes.
    """

    def __init__(self, n_threads: int, max_bytes: int, large: int = LARGE_BYTES) -> None:
        self.max_bytes, self._large, self._max_large = max_bytes, large, max(1, n_threads - 1)
        self._threads = ThreadPoolExecutor(n_threads, "decode")
        self._free, self._n_large = n_threads, 0
        self._used = self._used_ahead = (
            0  # bytes of the running calls, and of those that were let ahead
        )
        self._waiting: list[_Work] = []  # in the order of their ends
        self._n_requests = self._n_works = 0
        self._now = 0.0  # virtual time: bytes of each request's equal share so far

    @contextmanager
    def request(self) -> Iterator["Request"]:
        """One request, which gets an equal share."""
        self._n_requests += 1
        try:
            yield Request(self, self._now)
        finally:
            self._n_requests -= 1

    def close(self) -> None:
        """Call it after the last result."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, end: float, cost: int, call: Callable[[], T]) -> T:
        """The result of a call after its turn came; a call above the budget runs alone."""
        cost = min(cost, self.max_bytes)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._n_works += 1
        insort(self._waiting, _Work(end, self._n_works, cost, call, result))
        self._start()
        return await result

    def _start(self) -> None:
        self._waiting = [work for work in self._waiting if not work.result.done()]  # given up
        while self._free and (place := self._place()) is not None:
            work, ahead = self._waiting.pop(place), place > 0
            self._count(work, ahead, 1)
            self._now += work.cost / max(1, self._n_requests)
            run = asyncio.get_running_loop().run_in_executor(self._threads, work.call)
            run.add_done_callback(partial(self._hand_out, work, ahead))

    def _place(self) -> int | None:
        """The place of the first call that fits into the budget.

        A call that is let ahead of the very first one leaves enough room for that one, once the
        running calls have ended. So the first one does not wait for ever.
        """
        for place, work in enumerate(self._waiting):
            room = self.max_bytes - self._used
            if place:
                room = min(room, self.max_bytes - self._waiting[0].cost - self._used_ahead)
            if work.cost <= room and not (
                self._is_large(work) and self._n_large >= self._max_large
            ):
                return place
        return None

    def _is_large(self, work: _Work) -> bool:
        return work.cost > self._large

    def _count(self, work: _Work, ahead: bool, sign: int) -> None:
        self._free -= sign
        self._n_large += sign * self._is_large(work)
        self._used += sign * work.cost
        self._used_ahead += sign * work.cost * ahead

    def _hand_out(self, work: _Work, ahead: bool, done: "asyncio.Future[Any]") -> None:
        self._count(work, ahead, -1)
        self._start()
        if done.cancelled():
            work.result.cancel()
        elif (error := done.exception()) is not None and not work.result.done():
            work.result.set_exception(error)
        elif not work.result.done():
            work.result.set_result(done.result())


class Request:
    """The queue of one request."""

    def __init__(self, turns: Turns, now: float) -> None:
        self._turns, self._end = turns, now

    async def run(self, cost: int, call: Callable[[], T]) -> T:
        """The result of a call of `cost` bytes, after the earlier calls of this request."""
        self._end += cost
        return await self._turns.run(self._end, cost, call)
