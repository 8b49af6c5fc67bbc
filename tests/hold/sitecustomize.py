"""Holds a Python process for ever where it is about to write a file whose path matches $HOLD, or to
rename one from or to it.

Where $HOLD_TEXT is set, that file must hold a match of it by then. $HELD is the file to write the
process's number to. A test that kills it there cuts it in the same place on a fast machine and on a
slow one.
"""

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

HOLD, TEXT = (re.compile(os.environ.get(name, "")) for name in ("HOLD", "HOLD_TEXT"))
WRITES = os.O_WRONLY | os.O_RDWR
asked = threading.local()


def _hold(event: str, arguments: tuple[Any, ...]) -> None:
    if (
        event not in ("open", "os.rename")
        or isinstance(arguments[0], int)
        or getattr(asked, "now", False)
    ):
        return
    asked.now = True
    paths = [Path(os.fsdecode(path)) for path in arguments[: 2 if event == "os.rename" else 1]]
    writes = event == "os.rename" or arguments[2] & WRITES
    if writes and any(
        HOLD.search(str(path))
        and (not TEXT.pattern or (path.exists() and TEXT.search(path.read_text())))
        for path in paths
    ):
        held = Path(os.environ["HELD"])
        held.with_suffix(".new").write_text(str(os.getpid()))
        held.with_suffix(".new").rename(held)
        threading.Event().wait()
    asked.now = False


if HOLD.pattern:
    sys.addaudithook(_hold)
