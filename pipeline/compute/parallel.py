"""Work on many items at once, on all cores, and work in a process of its own."""

import atexit
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# The cores that this process may use; fewer than the machine's where it is bound to some.
N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
AHEAD = 8  # items per core that are drawn in advance


def in_order(
    function: Callable[[T], R], items: Iterable[T], ahead: int | None = None
) -> Iterator[R]:
    """function(item) for each item, in order.

    Only a few items and results, `ahead` or AHEAD per core, are in memory. It uses threads, since
    decoding, resizing and hashing release Python's lock.
    """
    most = (AHEAD if ahead is None else ahead) * N_CORES
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(N_CORES) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def apart(function: Callable[..., R], *arguments: object) -> R:
    """function(*arguments) in a new process, which ends with this one.

    The memory of its imports and data is freed afterwards.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _end_at_once) as pool:
        return pool.submit(function, *arguments).result()


def _end_at_once() -> None:
    """When the parent ends; and, once the result is out, without taking apart what was imported, for
    which the parent would wait seconds.
    """
    end_with_parent(partial(os._exit, 1))
    atexit.register(os._exit, 0)


def end_with_parent(end: Callable[[], object]) -> None:
    """Call `end` when the process that started this one, by multiprocessing, has ended."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        end()

    Thread(target=wait, daemon=True).start()
