"""How long one call takes on this machine."""

import time
from collections.abc import Callable

import numpy as np

WARM_UP = 5
ROUNDS = 5


def milliseconds(call: Callable[[], object], runs: int) -> list[float]:
    """The time of each of so many calls, one after the other."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return times


def latency(call: Callable[[], object], runs: int, warm_up: int = WARM_UP) -> dict[str, float]:
    """latency/p50_ms and latency/p95_ms of so many calls, after some that warm up.

    Of five rounds the quietest counts, the one of the least median: choices are made by this
    figure, and another program may be busy.
    """
    times = milliseconds(call, warm_up + runs)
    rounds = np.array_split(times[warm_up:], min(runs, ROUNDS))
    quietest = min(rounds, key=np.median)
    return {
        "latency/p50_ms": float(np.median(quietest)),
        "latency/p95_ms": float(np.percentile(quietest, 95)),
    }
