"""Processes: which `dvc` started a stage, whether it lives, who runs it, when garbage is collected.

The name of a process is host, number and start: its number alone is reused later.
"""

import atexit
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from pipeline import FieldmarkError
from pipeline.runs import surroundings


def rebuild() -> psutil.Process:
    """The nearest ancestor that is DVC; this process itself where a stage was started by hand.

    Raises FieldmarkError where DVC started the stage and has ended.
    """
    ancestors = psutil.Process().parents()
    dvc = next(
        (p for p in ancestors if any(Path(word).name == "dvc" for word in _words(p)[:3])), None
    )
    if dvc is not None or not os.environ.get("DVC_STAGE"):
        return dvc or psutil.Process()
    adopted = os.getppid() == 1 or os.getsid(os.getppid()) != os.getsid(0)
    if adopted:  # by the process that takes orphans here
        raise FieldmarkError("the `dvc` that started this stage is gone; run `dvc repro` again")
    return ancestors[0]  # DVC called from somebody's Python


def stop_with_rebuild() -> None:
    """From now on this process ends when its `dvc` does.

    An orphan would go on writing beside the stage that the next `dvc repro` starts.
    """
    owner = rebuild()
    if owner.pid != os.getpid():
        threading.Thread(target=_stop_with, args=(name(owner),), daemon=True).start()


def put_off_garbage() -> None:
    """Collect no garbage until `collect_from_here`.

    The objects that imports create stay. Searching them again and again takes two seconds.
    """
    gc.disable()


def collect_from_here() -> None:
    """Collect garbage again, but only among objects created from now on."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # else libraries report it as leaked at the end


@contextmanager
def without_teardown() -> Iterator[None]:
    """A process that succeeds within ends as soon as all exit handlers have run.

    Python would take apart every object that torch and MLflow made, which takes three seconds.
    """
    succeeded: list[bool] = []

    def leave() -> None:
        if succeeded:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    atexit.register(leave)  # the first to be registered is the last to run
    try:
        yield
    except SystemExit as end:
        if not end.code:
            succeeded.append(True)
        raise
    succeeded.append(True)


def name(process: psutil.Process | None = None) -> str:
    """`host/number/start` of a process, by default this one.

    The start counts from boot, since the clock may be set.
    """
    process = process or psutil.Process()
    return f"{socket.gethostname()}/{process.pid}/{process.create_time() - psutil.boot_time():.2f}"


def ended(named: str) -> bool:
    """Whether the process of this name has surely ended; False for another host."""
    host, number, _ = named.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(number))
        return name(process) != named or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:  # alive, and not ours to look at
        return False


def person() -> str:
    """git's user.name, or the name of the account."""
    try:
        name = subprocess.run(
            ["git", "config", "user.name"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        ).stdout.strip()
    except OSError:  # no git
        name = ""
    return name or surroundings.account()


def _stop_with(owner: str) -> None:
    while not ended(owner):
        time.sleep(0.5)
    os._exit(1)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # a parent that ended or is not ours to read is not our `dvc`
        return []
