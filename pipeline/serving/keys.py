"""API keys of 256 random bits, stored as SHA-256, and the rate limit of each key.

Keys of this length need no salt and no slow hash: nobody can guess them.
"""

import errno
import hashlib
import logging
import math
import os
import re
import secrets
import time
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

from pipeline import FieldmarkError, config

log = logging.getLogger(__name__)
VARIABLE = "FIELDMARK_API_KEYS"
BUCKETS = 1024  # names with a rate limit of their own, including names of deleted keys


def new(name: str, file: Path) -> str:
    """Make a key, add its hash to the file, and return the key, which is stored nowhere.

    Only the owner may read the file. Raises FieldmarkError for a name that is taken, or with anything but letters, digits, dots,
    dashes and underscores.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise FieldmarkError(
            f"{name!r} cannot name a key; use letters, digits, dots, dashes and underscores"
        )
    if name in load(file).values():
        raise FieldmarkError(
            f"there is a key {name} already; take another name, or delete its line in {file}"
        )
    key = secrets.token_urlsafe(32)
    _append(config.private(file), f"{name} {_hash(key)}\n".encode())
    return key


def _append(file: Path, line: bytes) -> None:
    """Write the whole line or, on a full disk, nothing: half a line would make all keys invalid."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0) as out:
        before = os.fstat(out.fileno()).st_size
        try:
            n_written = out.write(line)
            if n_written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        except OSError:
            out.truncate(before)
            raise


def load(file: Path) -> dict[str, str]:
    """{hash: name} from the lines of the file and from the variable FIELDMARK_API_KEYS.

    Raises FieldmarkError for an invalid line or item.
    """
    names, problems = _read(file)
    if problems:
        raise FieldmarkError(problems[0])
    return names


def _read(file: Path) -> tuple[dict[str, str], list[str]]:
    """{hash: name}, and what is wrong with the invalid lines and items."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    entries = [
        (str(file), line.split())
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    entries += [
        (VARIABLE, item.split(":"))
        for item in re.split(r"[\s,]+", os.environ.get(VARIABLE, ""))
        if item
    ]
    valid = [len(parts) == 2 and re.fullmatch(r"[0-9a-f]{64}", parts[1]) for _, parts in entries]
    problems = [
        f"{where}: not a name with a SHA-256; make a key with `fieldmark serve --new-key NAME`"
        for (where, _), ok in zip(entries, valid, strict=True)
        if not ok
    ]
    names = {parts[1]: parts[0] for (_, parts), ok in zip(entries, valid, strict=True) if ok}
    return names, problems


class Keys:
    """The valid keys, and one token bucket per name, filled `rate_per_s` times a second up to `burst`.

    With a file, a key works or stops working as soon as its line is added or deleted. A server that
    started with keys always requires one, even after the last is deleted. The processes of one
    server share the buckets. They have no lock, since a killed process would leave it locked:
    two processes that count in the same microsecond may take the same token.
    """

    def __init__(
        self, names: dict[str, str], rate_per_s: float, burst: int, file: Path | None = None
    ) -> None:
        """`names`: {hash: name}."""
        self._names, self._rate, self._burst = names, rate_per_s, burst
        self._needed, self._file = bool(names), file
        self._stamp: tuple[int, int, int] | None = (0, 0, 0)  # of no file: the first check reads it
        self._buckets = RawArray("d", 3 * BUCKETS)  # per bucket: mark of the name, tokens, time

    def __bool__(self) -> bool:
        return self._needed

    def name(self, key: str) -> str | None:
        """The name of a key; None for an unknown or deleted key."""
        if self._file is not None:
            self._follow(self._file)
        return self._names.get(_hash(key))

    def _follow(self, file: Path) -> None:
        """Read the file again where it has changed; this costs one `stat` per request.

        An invalid line lets nobody in, and does not stop the deletion of another key.
        """
        try:
            info = file.stat()
            stamp = (info.st_ino, info.st_mtime_ns, info.st_size)
        except OSError:  # it is gone, or its folder is, or is closed
            stamp = None
        if stamp == self._stamp:
            return
        try:
            self._names, problems = _read(file)
        except OSError as error:
            self._names, problems = {}, [f"{file}: cannot be read ({error.strerror}): no key works"]
        self._stamp = stamp
        for problem in problems:
            log.error("%s", problem)

    def wait_s(self, name: str, now: float | None = None) -> float:
        """Take a token and return 0, or return the seconds until the next token."""
        now = time.monotonic() if now is None else now
        at = self._place(name)
        tokens, since = self._buckets[at + 1 : at + 3]
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        remaining = tokens - 1 if tokens >= 1 else tokens
        self._buckets[at + 1 : at + 3] = [remaining, now]
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def _place(self, name: str) -> int:
        """The place of a name's bucket, the same in all processes.

        It is the first free place from the one its hash points to; a new bucket is full.
        """
        mark = float(int(_hash(name)[:12], 16) + 1)
        first = int(mark) % BUCKETS
        for step in range(BUCKETS):
            at = 3 * ((first + step) % BUCKETS)
            if self._buckets[at] == 0:
                self._buckets[at : at + 3] = [mark, float(self._burst), -math.inf]
            if self._buckets[at] == mark:
                return at
        return 3 * first  # more names than buckets: two share one


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
