import os
import subprocess
import sys
import time

import psutil
import pytest
from holding import LONG, wait_until

from pipeline.compute import parallel


def test_results_come_in_order_and_little_is_drawn_ahead() -> None:
    drawn: list[int] = []

    def items() -> object:
        for i in range(200):
            drawn.append(i)
            yield i

    def square(i: int) -> int:
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    for n, result in enumerate(parallel.in_order(square, items())):  # type: ignore[arg-type]
        assert result == n * n
        assert len(drawn) <= n + parallel.AHEAD * parallel.N_CORES + 1
    assert len(drawn) == 200


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processes are not bound to cores here"
)
def test_only_the_cores_that_a_process_may_use_are_counted() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from pipeline.compute "
        "import parallel; print(parallel.N_CORES)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "1"
    )


def test_an_error_of_one_item_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(parallel.in_order(lambda i: 1 // i, [1, 0, 2]))


def test_work_of_a_process_of_its_own_comes_back_or_its_error() -> None:
    assert parallel.apart(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        parallel.apart(int, "no number")


def test_work_of_a_process_of_its_own_ends_when_this_one_is_killed() -> None:
    """It would take the cores from the run that is started next."""
    code = "import time; from pipeline.compute import parallel; parallel.apart(time.sleep, 600)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_until(lambda: psutil.Process(process.pid).children(), "the process of its own")
        children = psutil.Process(process.pid).children()
        process.kill()
    assert not psutil.wait_procs(children, timeout=LONG)[1]
