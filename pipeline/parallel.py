"""Work on many items at once, on all cores."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 8  # items a core that are drawn before they are asked for


def in_order(function: Callable[[T], R], items: Iterable[T], ahead: int | None = None) -> Iterator[R]:
    """function(item) for each item, in order; only a few items and results, `ahead` or AHEAD a core, are in memory.

    Threads, since decoders, resizing and hashing let each other run.
    """
    n_cores = os.cpu_count() or 1
    most = (AHEAD if ahead is None else ahead) * n_cores
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_cores) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
