"""A file's bytes, up to a limit; the size is checked before anything is read."""

import os
import stat
from pathlib import Path
from typing import IO, BinaryIO

MAX_FILE_BYTES = 500_000_000  # the default: films are larger, photos are not
CHUNK_BYTES = 2**20


class TooLarge(OSError):
    """A file over the limit; nothing beyond the limit was read."""

    def __init__(self, n_bytes: int, max_bytes: int) -> None:
        super().__init__(
            f"{n_bytes / 1e6:.4g} MB exceed the limit of {max_bytes / 1e6:.4g} for one file "
            f"(max_file_megabytes)"
        )


def check_size(n_bytes: int | None, max_bytes: int) -> None:
    """Raise TooLarge where that many bytes exceed the limit; an unknown size passes."""
    if n_bytes is not None and n_bytes > max_bytes:
        raise TooLarge(n_bytes, max_bytes)


def read_file(path: Path | str, max_bytes: int = MAX_FILE_BYTES, *, pipes: bool = False) -> bytes:
    """The bytes of a file of this machine.

    Raises OSError for what is no file (a pipe passes with `pipes`), is too large, or cannot be
    read.
    """
    with open_file(path, pipes=pipes) as stream:
        size = os.fstat(stream.fileno()).st_size
        check_size(size, max_bytes)
        return read_stream(stream, max_bytes, size)


def open_file(path: Path | str, *, pipes: bool = False) -> BinaryIO:
    """A file of this machine for reading; raises OSError, and never waits without `pipes`."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not (pipes and stat.S_ISFIFO(mode)):
            raise OSError("not a file but a folder, pipe, socket or device")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _patience(mode))
        stream = open(descriptor, "rb")  # noqa: SIM115
    except ValueError as problem:
        raise OSError("a name that no file can have") from problem
    if stat.S_IFMT(os.fstat(stream.fileno()).st_mode) != stat.S_IFMT(mode):
        stream.close()
        raise OSError("replaced by something else while it was opened")
    return stream


def read_stream(stream: IO[bytes], max_bytes: int, expected: int) -> bytes:
    """Read to the end; raises TooLarge beyond the limit, whatever size was expected."""
    data = stream.read(min(expected, max_bytes) + 1)
    if len(data) <= expected:
        return data
    parts, n_bytes = [data], len(data)  # it has grown, or its size was unknown
    while part := stream.read(CHUNK_BYTES):
        parts.append(part)
        n_bytes += len(part)
        check_size(n_bytes, max_bytes)
    check_size(n_bytes, max_bytes)
    return b"".join(parts)


def _patience(mode: int) -> int:
    """The flag that keeps opening from waiting, should a pipe replace the file meanwhile."""
    return 0 if stat.S_ISFIFO(mode) else os.O_NONBLOCK
