"""Errors of the machine in one line: a disk that is full, read-only or broken, a silent store.

Libraries wrap such an error in their own exceptions, so the causes are searched too. Any other
error is a fault of the program, and keeps its traceback.
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import FieldmarkError, one_line, redacted

FULL = "free some space, then run it again; finished files are unchanged"
WRITE_PROTECTED = (
    "check who owns file and folder (`ls -ld`), and whether the disk is mounted read-only"
)
BROKEN = "check the disk or its connection, then run it again"
TOO_MANY = "raise the limit (`ulimit -n`), or set fewer workers (FIELDMARK_WORKERS)"
IN_THE_WAY = "something else stands there: move it elsewhere, or name another place"
ADVICE = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: FULL,
    errno.EROFS: WRITE_PROTECTED,
    errno.EACCES: WRITE_PROTECTED,
    errno.EPERM: WRITE_PROTECTED,
    errno.EIO: BROKEN,
    errno.ESTALE: BROKEN,
    errno.ENOTCONN: BROKEN,
    errno.ETIMEDOUT: BROKEN,
    errno.EISDIR: IN_THE_WAY,  # a folder where a file should be, or the other way round
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.ELOOP: IN_THE_WAY,
    errno.EMFILE: TOO_MANY,
    errno.ENFILE: TOO_MANY,
}
# The words of libraries that drop errno: SQLite, numpy, Pillow, torch, Arrow, ONNX.
WORDS = {
    r"no space left on device|disk quota exceeded|file too large": FULL,
    r"database or disk is full|\d+ requested and \d+ written|error writing bytes": FULL,
    r"encoder error -\d|inline_container.cc.* unexpected pos|iostream error": FULL,
    r"read-only file system|readonly database|unable to open database file": WRITE_PROTECTED,
    r"permission denied": WRITE_PROTECTED,
    r"disk i/o error|input/output error|database disk image is malformed": BROKEN,
    r"database is locked": "another process holds it, or the disk is slow; run it again",
}


@contextmanager
def in_one_line() -> Iterator[None]:
    """Around a command: end it with one line and exit code 2 where `explain` has one.

    Otherwise it ends with exit code 1 and a traceback without secrets of addresses.
    """
    try:
        with _flushed():
            yield
    except Exception as error:
        line = explain(error)
        if line is None:
            lines = traceback.format_exception(error)
            print(redacted("".join(lines)), end="", file=sys.stderr)
            raise SystemExit(1) from error
        print(f"fieldmark: {line}", file=sys.stderr)
        raise SystemExit(2) from error


def explain(error: BaseException) -> str | None:
    """One line that says what failed and what to do; None for an error of the program."""
    for cause in _causes(error):
        if isinstance(cause, FieldmarkError):
            return str(cause)
    if (refused := refusal(error)) is not None:
        return refused
    if type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "requests.")):
        return f"the store failed ({reason(error)}); try again once it answers"
    return None


def refusal(error: BaseException) -> str | None:
    """Which operation of a disk failed, in one line with what to do; None for any other error."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in ADVICE:
            name = f" {_name(cause.filename)}" if cause.filename else ""
            verb = "write" if ADVICE[cause.errno] == FULL else "read or write"
            return f"cannot {verb}{name}: {cause.strerror}; {ADVICE[cause.errno]}"
    for cause in _causes(error):
        for words, advice in WORDS.items():
            if re.search(words, str(cause), re.IGNORECASE):
                return f"cannot write ({_short(cause)}); {advice}"
    return None


@contextmanager
def _flushed() -> Iterator[None]:
    """Flush the output at the end, and raise if that fails; Python would only warn at exit."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:  # the reader closed the pipe
                raise SystemExit(1) from error
            raise OSError(error.errno, error.strerror, "the standard output") from error


def reason(error: BaseException) -> str:
    """The innermost cause in one line, without the password of an address.

    MLflow, requests and urllib3 wrap it in hundreds of characters.
    """
    *_, innermost = _causes(error)
    return _short(innermost)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from, and so on."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _name(filename: str | bytes | int) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)


def _short(error: BaseException) -> str:
    return one_line(error).partition(" [SQL")[0]
