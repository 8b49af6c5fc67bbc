"""Turns at decoding: a few threads and a budget of memory, shared fairly among requests.

Weighted fair queueing (Demers, Keshav and Shenker, SIGCOMM 1989): what is next is what would end
first if all requests were decoded at the same time, each with an equal share. So a small image
passes thirty requests of many huge ones, and waits only for what is being decoded already.
"""

import asyncio
from bisect import insort
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
LARGE_BYTES = 64_000_000  # of some ten megapixels: such calls leave a thread to the others


class _Work(NamedTuple):
    end: float  # in virtual time
    number: int
    cost: int  # bytes of memory while it runs
    call: Callable[[], Any]
    result: "asyncio.Future[Any]"


class Turns:
    """Runs calls in at most `n_threads` threads and, added up, `max_bytes`; of several threads, one
    is kept for calls of up to `large` bytes. Used from one event loop.
    """

    def __init__(self, n_threads: int, max_bytes: int, large: int = LARGE_BYTES) -> None:
        self.max_bytes, self._large, self._max_large = max_bytes, large, max(1, n_threads - 1)
        self._threads = ThreadPoolExecutor(n_threads, "decode")
        self._free, self._n_large = n_threads, 0
        self._used = self._used_ahead = 0  # bytes of all that runs, and of what was let ahead
        self._waiting: list[_Work] = []  # in the order of their ends
        self._n_requests = self._n_works = 0
        self._now = 0.0  # virtual time: bytes that each present request would have had by now

    @contextmanager
    def request(self) -> Iterator["Request"]:
        """One of those that share."""
        self._n_requests += 1
        try:
            yield Request(self, self._now)
        finally:
            self._n_requests -= 1

    def close(self) -> None:
        """After the last result."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, end: float, cost: int, call: Callable[[], T]) -> T:
        """The result of a call that waits for its turn; one above the budget runs alone."""
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
        """Of the first that fits into the budget. What is let ahead of the very first leaves it
        enough room for when those that run now have ended: it is not passed for ever.
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
    """One request's place among the others."""

    def __init__(self, turns: Turns, now: float) -> None:
        self._turns, self._end = turns, now

    async def run(self, cost: int, call: Callable[[], T]) -> T:
        """The result of a call that takes so many bytes, behind those that this request has
        already asked for.
        """
        self._end += cost
        return await self._turns.run(self._end, cost, call)
