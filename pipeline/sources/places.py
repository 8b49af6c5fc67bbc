"""The files that the rows of a listing name.

On this machine every spelling of a name is accepted; behind an address, only files below the
listing's own folder.
"""

import os
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial
from urllib.parse import unquote

from pipeline import FieldmarkError, redacted
from pipeline.config.addresses import check_address
from pipeline.sources import address, bounded
from pipeline.sources.nearest import Nearest

OUTSIDE = (
    "is outside the listing's folder; a listing behind an address may only name files below it"
)
ODD = re.compile(r"[\x00-\x20\x7f\\]")  # which each parser of addresses reads in its own way


class BadRow(ValueError):
    """A row that is left out; the message names the column."""


class Places:
    """Where the rows of one listing lead.

    base: the listing's folder; query: the end of its address, which the files below it need, too.
    """

    def __init__(
        self, base: str, query: str, prefix: str, suffix: str, *, private: bool, max_bytes: int
    ) -> None:
        if address.is_remote(prefix) or prefix.startswith("/"):
            base, query = prefix.rpartition("/")[0], ""
            prefix = prefix.rpartition("/")[2]
        self._base, self._query, self._prefix, self._suffix = base, query, prefix, suffix
        self._private, self._max_bytes = private, max_bytes
        self._remote = address.is_remote(base)
        self._spellings = lru_cache(maxsize=64)(_spellings)
        self._nearest = None if self._remote else Nearest(base)

    def place(self, path: str) -> str:
        """The file or address of a row; raises BadRow where it may not be read."""
        if address.is_remote(path):
            return self._address(path + self._suffix)
        if self._remote:
            return self._below(path)
        if not os.path.isabs(path):
            path = f"{self._base}/{self._prefix}{path}"
        return self._on_disk(path + self._suffix)

    def name(self, path: str) -> str:
        """The name of a row's file in every record, without secrets."""
        if address.is_remote(path):
            return redacted(path + self._suffix)
        whole = f"{'' if os.path.isabs(path) else self._prefix}{path}{self._suffix}"
        return whole.partition("?")[0] if self._base.startswith("http") else whole

    def loader(self, place: str) -> Callable[[], bytes]:
        """A function that reads the file; raises OSError, which names the nearest file."""
        if address.is_remote(place):
            return address.loader(place, self._max_bytes, private=self._private)
        return partial(self._read, place)

    def _address(self, url: str) -> str:
        try:
            check_address(url)
        except FieldmarkError as problem:
            raise BadRow(str(problem)) from problem
        if self._remote:
            inside = [root for root in (self._base, redacted(self._base)) if _starts(url, root)]
            if not inside or _leads_up(url[len(inside[0]) :]) or ODD.search(url):
                raise BadRow(f"{redacted(url)} {OUTSIDE}")
        return url

    def _below(self, path: str) -> str:
        text = f"{self._prefix}{path}{self._suffix}".replace("\\", "/")
        if text.startswith("/") or re.match(r"[A-Za-z]:", text) or _leads_up(text):
            raise BadRow(f"{redacted(path)} {OUTSIDE}")
        if self._base.startswith("http"):
            text = text.replace("#", "%23")  # part of a name, not a fragment
        return f"{self._base}/{text}{'' if '?' in text else self._query}"

    def _on_disk(self, path: str) -> str:
        """The path as it is spelled on disk: with slashes, and in the Unicode form of its names."""
        for spelling in (path, path.replace("\\", "/")):
            if _exists(spelling):
                return spelling
        here = "/" if os.path.isabs(path) else "."
        for part in path.replace("\\", "/").split("/"):
            if part in ("", "."):
                continue
            inner = os.path.join(here, part)
            if not _exists(inner):
                spelled = self._spellings(here).get(unicodedata.normalize("NFC", part))
                if spelled is None:
                    return path
                inner = os.path.join(here, spelled)
            here = inner
        return here

    def _read(self, place: str) -> bytes:
        try:
            return bounded.read_file(place, self._max_bytes)
        except FileNotFoundError as problem:
            hint = self._nearest.hint(place) if self._nearest else ""
            raise FileNotFoundError(problem.errno, f"{problem.strerror}{hint}") from problem


def _starts(url: str, root: str) -> bool:
    return url.startswith(root.rstrip("/") + "/")


def _leads_up(path: str) -> bool:
    """Whether a path leaves its folder, however often its dots are quoted."""
    while (plain := unquote(path)) != path:
        path = plain
    return ".." in re.split(r"[/\\]", re.split(r"[?#]", path)[0])


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a name that no file can have
        return False


def _spellings(folder: str) -> dict[str, str]:
    """The names in a folder by their NFC form."""
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return {}
    return {unicodedata.normalize("NFC", name): name for name in names}
