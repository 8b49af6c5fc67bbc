"""Where work on many items runs, which never changes a result; by FIELDMARK_ENGINE.

local       in this process, one after the other
processes   in several processes of this machine, FIELDMARK_PROCESSES at once
ray         as tasks of the Ray cluster that RAY_ADDRESS names, or of one on this machine
"""

import os
from contextlib import AbstractContextManager, suppress

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.search.engines import local, processes, ray
from pipeline.search.engines.interface import Engine as Engine

NAMES = ("local", "processes", "ray")
WORTH_S = 30.0  # of work, above which starting processes pays: each takes a few seconds


def opened(threads: int, work_s: float) -> AbstractContextManager[Engine]:
    """The engine that FIELDMARK_ENGINE names; without it processes where they are faster.

    threads: that each item computes with, by which the cores are shared. work_s: seconds that all
    items together take, roughly. Raises FieldmarkError where an environment variable is wrong.
    """
    at_once = _at_once(threads)
    fastest = "processes" if at_once > 1 and work_s > WORTH_S else "local"
    name = os.environ.get("FIELDMARK_ENGINE") or fastest
    if name not in NAMES:
        raise FieldmarkError(f"FIELDMARK_ENGINE is {name!r}; it can be {', '.join(NAMES)}")
    if name == "ray":
        return ray.opened(threads)
    return processes.opened(at_once) if name == "processes" else local.opened()


def _at_once(threads: int) -> int:
    setting = os.environ.get("FIELDMARK_PROCESSES")
    if not setting:
        return max(1, parallel.N_CORES // threads)
    with suppress(ValueError):
        if int(setting) > 0:
            return int(setting)
    raise FieldmarkError(f"FIELDMARK_PROCESSES is {setting!r}; give a number above 0")
