"""The most memory that this process held, since a moment of one's choice."""

import re
from contextlib import suppress
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def restart() -> None:
    """Forget what was held before; without effect where the system has no such counter."""
    with suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size


def peak_mb() -> float:
    """Megabytes, libraries and what was loaded before included; NaN where the system (not Linux)
    does not say. Other processes, such as those that load images, are not counted.
    """
    with suppress(OSError):
        if line := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii")):
            return int(line[1]) * 1024 / 1e6
    return float("nan")
