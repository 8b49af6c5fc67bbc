"""API keys: 256 random bits each, of which only the SHA-256 is kept; and how fast one key may ask.

Keys this long need no salt and no slow hash: there is nothing to guess.
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
BUCKETS = 1024  # names whose haste is counted apart, those of withdrawn keys among them


def new(name: str, file: Path) -> str:
    """Make a key, add its hash to the file (only the owner may read it), and return the key, which
    nothing keeps.

    Raises FieldmarkError for a name that is taken, or with anything but letters, digits, dots,
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
    """All of the line or, where the disk is full, none of it: half a line would refuse all keys."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0) as out:
        before = os.fstat(out.fileno()).st_size
        try:
            written = out.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        except OSError:
            out.truncate(before)
            raise


def load(file: Path) -> dict[str, str]:
    """{hash: name} of the file's lines and of the variable FIELDMARK_API_KEYS; raises
    FieldmarkError for what is neither.
    """
    known, problems = _read(file)
    if problems:
        raise FieldmarkError(problems[0])
    return known


def _read(file: Path) -> tuple[dict[str, str], list[str]]:
    """The keys, and what is wrong with the lines and items that are none."""
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
    good = [len(parts) == 2 and re.fullmatch(r"[0-9a-f]{64}", parts[1]) for _, parts in entries]
    problems = [
        f"{where}: not a name with a SHA-256; make a key with `fieldmark serve --new-key NAME`"
        for (where, _), fits in zip(entries, good, strict=True)
        if not fits
    ]
    known = {parts[1]: parts[0] for (_, parts), fits in zip(entries, good, strict=True) if fits}
    return known, problems


class Keys:
    """Who may ask, and how often: a token bucket a key, filled `rate_per_s` times a second up to
    `burst`.

    With a file, a key works or stops working as soon as its line is added or deleted. Who started
    with keys never answers without one, also where none is left. The processes of one server share
    the buckets. They have no lock, which a killed process would leave shut: two that count at the
    same microsecond may take the same token.
    """

    def __init__(
        self, known: dict[str, str], rate_per_s: float, burst: int, file: Path | None = None
    ) -> None:
        self._known, self._rate, self._burst = known, rate_per_s, burst
        self._needed, self._file = bool(known), file
        self._stamp: tuple[int, int, int] | None = (0, 0, 0)  # of no file: the first look reads it
        self._buckets = RawArray("d", 3 * BUCKETS)  # whose, tokens, and when they were counted

    def __bool__(self) -> bool:
        return self._needed

    def name(self, key: str) -> str | None:
        """Whose key it is; None for a key that is not known, or not any more."""
        if self._file is not None:
            self._follow(self._file)
        return self._known.get(_hash(key))

    def _follow(self, file: Path) -> None:
        """Read the file again where it has changed, which costs one look at its date a request.

        A line that is no key lets nobody in, and keeps no other key from being withdrawn.
        """
        try:
            found = file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:  # it is gone, or its folder is, or is closed
            stamp = None
        if stamp == self._stamp:
            return
        try:
            self._known, problems = _read(file)
        except OSError as error:
            self._known, problems = {}, [f"{file}: cannot be read ({error.strerror}): no key works"]
        self._stamp = stamp
        for problem in problems:
            log.error("%s", problem)

    def wait_s(self, name: str, now: float | None = None) -> float:
        """Take a token; 0, or else the seconds until there will be one."""
        now = time.monotonic() if now is None else now
        at = self._place(name)
        tokens, since = self._buckets[at + 1 : at + 3]
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        left = tokens - 1 if tokens >= 1 else tokens
        self._buckets[at + 1 : at + 3] = [left, now]
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def _place(self, name: str) -> int:
        """Where a name's bucket is, the same in all processes: the first free one from where its
        hash points to, full at first.
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
