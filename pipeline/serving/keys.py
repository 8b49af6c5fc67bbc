"""API keys: 256 random bits each, of which only the SHA-256 is kept; and how fast one key may ask.

Keys this long need no salt and no slow hash: there is nothing to guess.
"""

import hashlib
import math
import os
import re
import secrets
import time
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

from pipeline import FieldmarkError

VARIABLE = "FIELDMARK_API_KEYS"


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
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as out:
        out.write(f"{name} {_hash(key)}\n")
    return key


def load(file: Path) -> dict[str, str]:
    """{hash: name} of the file's lines and of the variable FIELDMARK_API_KEYS; raises
    FieldmarkError for what is neither.
    """
    lines = file.read_text().splitlines() if file.exists() else []
    told = [
        (str(file), line.split()) for line in lines if line.strip() and not line.startswith("#")
    ]
    told += [
        (VARIABLE, item.split(":"))
        for item in re.split(r"[\s,]+", os.environ.get(VARIABLE, ""))
        if item
    ]
    for where, parts in told:
        if len(parts) != 2 or not re.fullmatch(r"[0-9a-f]{64}", parts[1]):
            raise FieldmarkError(
                f"{where}: not a name with a SHA-256; make a key with `fieldmark serve "
                f"--new-key NAME`"
            )
    return {parts[1]: parts[0] for _, parts in told}


class Keys:
    """Who may ask, and how often: a token bucket a key, filled `rate_per_s` times a second up to
    `burst`.

    The processes of one server share the buckets. They have no lock, which a killed process would
    leave shut: two that count at the same microsecond may take the same token.
    """

    def __init__(self, known: dict[str, str], rate_per_s: float, burst: int) -> None:
        self._known, self._rate, self._burst = known, rate_per_s, burst
        self._place = {name: 2 * i for i, name in enumerate(sorted(set(known.values())))}
        self._buckets = RawArray(
            "d", [float(burst), -math.inf] * len(self._place)
        )  # tokens, and when they were counted

    def __bool__(self) -> bool:
        return bool(self._known)

    def name(self, key: str) -> str | None:
        """Whose key it is; None for a key that is not known."""
        return self._known.get(_hash(key))

    def wait_s(self, name: str, now: float | None = None) -> float:
        """Take a token; 0, or else the seconds until there will be one."""
        now = time.monotonic() if now is None else now
        at = self._place[name]
        tokens, since = self._buckets[at : at + 2]
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        left = tokens - 1 if tokens >= 1 else tokens
        self._buckets[at : at + 2] = [left, now]
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
