"""A word at the terminal while a command imports what it needs, which may take seconds."""

import atexit
import sys
from collections.abc import Callable
from typing import Any

WORD = "loading …"
ERASED = "\r\x1b[K"


class _Noticed:
    """A stream that calls `noticed` before the first text is written."""

    def __init__(self, stream: Any, noticed: Callable[[], None]) -> None:
        self._stream, self._noticed = stream, noticed

    def write(self, text: str) -> Any:
        self._noticed()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say() -> None:
    """Where people watch, say that the command has begun; what it writes first takes that place."""
    if not sys.stderr.isatty():
        return
    out, err = sys.stdout, sys.stderr

    def erase() -> None:
        if isinstance(sys.stderr, _Noticed):
            sys.stdout, sys.stderr = out, err
            err.write(ERASED)
            err.flush()

    err.write(WORD)
    err.flush()
    sys.stdout, sys.stderr = _Noticed(out, erase), _Noticed(err, erase)
    atexit.register(erase)
