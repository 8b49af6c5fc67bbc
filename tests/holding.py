"""Commands that are held in the middle of a stage, to be killed there."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOLD = Path(__file__).parent / "hold"
LONG = 300.0  # seconds; a busy machine must not fail a test


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {LONG:.0f} s"
        time.sleep(0.02)


@contextmanager
def held(
    command: str, folder: Path, environment: dict[str, str], place: str, text: str = ""
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """The running command, and the number of its process that waits where it would write a file
    that matches `place`.
    """
    said, mark = folder.parent / "held.log", folder.parent / "held.pid"
    mark.unlink(missing_ok=True)
    hold = {"PYTHONPATH": str(HOLD), "HOLD": place, "HOLD_TEXT": text, "HELD": str(mark)}
    with said.open("wb") as log:
        process = subprocess.Popen(
            command.split(),
            cwd=folder,
            env={**environment, **hold},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: mark.exists() or process.poll() is not None, f"{command} at {place}")
        assert mark.exists(), said.read_text()[-3000:]
        yield process, int(mark.read_text())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
