"""The engine `processes`: several processes of this machine, each with one item at a time.

They are copies of a server process that has imported what a trial needs, and so start in moments.
They end with this process, however it ends.
"""

import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.search.engines.interface import ATTEMPTS, Engine, R, T, surroundings, take_over

IMPORTED = ["pipeline.search.trial"]  # by the server, once for all


@dataclass(frozen=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection


@contextmanager
def opened(at_once: int) -> Iterator[Engine]:
    """An engine of so many processes, which start when there is work and end with the block."""
    workers: list[_Worker] = []
    try:
        yield partial(_computed, workers, at_once)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()


def _computed(
    workers: list[_Worker], at_once: int, function: Callable[[T], R], items: Sequence[T]
) -> Iterator[R]:
    waiting = deque(range(len(items)))
    busy: dict[_Worker, int] = {}
    deaths = [0] * len(items)
    results: dict[int, tuple[R, Exception | None]] = {}
    for wanted in range(len(items)):
        while wanted not in results:
            while waiting and (worker := _idle(workers, busy, at_once)):
                with suppress(BrokenPipeError):  # it died just now, and is heard of below
                    worker.connection.send((function, items[waiting[0]]))
                busy[worker] = waiting.popleft()
            for worker in _heard(busy):
                item = busy.pop(worker)
                try:
                    results[item] = worker.connection.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    worker.process.join()
                    deaths[item] += 1
                    _check(deaths[item])
                    waiting.appendleft(item)
        result, error = results.pop(wanted)
        if error is not None:
            raise error
        yield result


def _idle(workers: list[_Worker], busy: Mapping[_Worker, int], at_once: int) -> _Worker | None:
    """One that has no item; a new one where fewer than `at_once` run."""
    for worker in [worker for worker in workers if worker not in busy]:
        if worker.process.is_alive():
            return worker
        workers.remove(worker)
    if len(workers) == at_once:
        return None
    workers.append(_started())
    return workers[-1]


def _started() -> _Worker:
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    here, there = context.Pipe()
    # Not a daemon: what loads images for it are processes of its own.
    process = context.Process(target=_serve, args=(there, *surroundings()), daemon=False)
    process.start()
    there.close()  # so that the death of the process ends the connection
    return _Worker(process, here)


def _heard(busy: Mapping[_Worker, int]) -> list[_Worker]:
    """Those that have a result or have died; waits until there is one."""
    ready = wait([worker.connection for worker in busy])
    return [worker for worker in busy if worker.connection in ready]


def _check(deaths: int) -> None:
    if deaths == ATTEMPTS:
        raise FieldmarkError(
            f"a process that ran a trial was ended {ATTEMPTS} times in the same trial, as a system "
            "does where memory is short; set FIELDMARK_PROCESSES lower, or FIELDMARK_ENGINE=local"
        )


def _serve(connection: Connection, environment: dict[str, str], folder: str) -> None:
    parallel.end_with_parent(partial(os._exit, 1))
    take_over(environment, folder)
    while True:
        try:
            function, item = connection.recv()
        except EOFError:
            return
        answer: tuple[Any, Exception | None]
        try:
            answer = function(item), None
        except Exception as error:  # any of the function's is raised where it was asked for
            error.add_note(traceback.format_exc())
            answer = None, error
        connection.send(answer)
