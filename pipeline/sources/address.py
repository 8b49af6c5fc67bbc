"""Files behind an address such as s3://bucket/photos or https://host/labels.csv, by fsspec."""

import hashlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.parse import unquote

import fsspec

from pipeline import FieldmarkError, one_line, redacted
from pipeline.config.addresses import check_address, is_address
from pipeline.sources import bounded, web
from pipeline.sources.bounded import MAX_FILE_BYTES
from pipeline.sources.layout import Node, grown

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # the extra to install, by scheme

# A file that changes twice within one tick of the clock keeps its time. The coarsest ticks are
# this long.
UNSETTLED_SECONDS = 2.0


def is_remote(images: Path | str) -> bool:
    """An address, as opposed to a path on this machine."""
    return is_address(str(images))


def local_or_remote(images: str) -> Path | str:
    """`images` of params.yaml as the sources take it."""
    return images if is_remote(images) else Path(images)


class Address:
    """A folder or a file behind an address, opened once.

    Raises FieldmarkError where the scheme is unknown or not installed. `private`: whether a web
    server may stand in a private network. `url` is for people: it holds no secrets.
    """

    def __init__(self, url: str, *, private: bool = False) -> None:
        check_address(url)
        scheme, _, rest = url.partition("://")
        scheme, self.url = scheme.casefold(), redacted(url)
        self._web = scheme.startswith("http")
        try:
            self._fs = web.file_system(private) if self._web else _bucket(scheme, url)
        except ImportError as problem:
            raise FieldmarkError(
                f"{url}: {scheme}:// needs a package that is not installed: "
                f"uv pip install -e '.[{EXTRAS.get(scheme, scheme)}]' ({problem})"
            ) from problem
        except ValueError as problem:
            raise FieldmarkError(f"{url}: {problem}") from problem
        self._path = str(self._fs._strip_protocol(f"{scheme}://{rest}"))
        self._infos: dict[str, Any] = {}

    def tree(self) -> Node[str]:
        """All files below; raises FieldmarkError where they cannot be listed."""
        if self._web and {"?", "#"} & {*self._path}:
            raise FieldmarkError(
                f"{self.url}: a folder of a web server is named without a query (?...)"
            )
        root = self._path.rstrip("/") + "/"
        try:
            paths = web.below(self._fs, root) if self._web else self._below()
        except Exception as problem:  # each file system has errors of its own
            raise FieldmarkError(f"{self.url} cannot be listed: {_reason(problem)}") from problem
        files = sorted(path for path in paths if path.startswith(root) and not path.endswith("/"))
        named = [
            (unquote(path[len(root) :]) if self._web else path[len(root) :], path) for path in files
        ]
        return grown(
            (tuple(part for part in name.split("/") if part), path) for name, path in named
        )

    def _below(self) -> list[str]:
        self._infos = self._fs.find(self._path, detail=True)
        return [*self._infos]

    def stamp(self, path: str) -> str:
        """The stamp of a file (see Item) by its ETag; "" where the server has none.

        S3 and GCS give each content an ETag of its own.
        """
        info = self._infos.get(path, {})
        tag = str(info.get("ETag") or info.get("etag") or "")
        return tag and _short(f"{self._fs.protocol} {path} {tag}")

    def copy(self, to: Path, max_bytes: int | None = None) -> None:
        """Copy the file to disk, piece by piece.

        Raises FieldmarkError where it cannot be read, or is larger than the limit.
        """
        try:
            if self._web:
                web.copy(self._fs, self._path, to, max_bytes)
            else:
                size = self._size(self._path)
                bounded.check_size(size, size if max_bytes is None else max_bytes)
                self._fs.get_file(self._path, str(to))
        except Exception as problem:
            raise FieldmarkError(f"{self.url} cannot be read: {_reason(problem)}") from problem

    def loader(self, path: str, max_bytes: int = MAX_FILE_BYTES) -> Callable[[], bytes]:
        """A function that reads a file of the same file system; it raises only OSError."""
        return partial(self._read, path, max_bytes)

    def read(self, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """The file at the address; raises only OSError."""
        return self._read(self._path, max_bytes)

    def _read(self, path: str, max_bytes: int) -> bytes:
        try:
            if self._web:
                return web.read(self._fs, path, max_bytes)
            bounded.check_size(self._size(path), max_bytes)
            return bytes(self._fs.cat_file(path))
        except bounded.TooLarge:
            raise
        except Exception as problem:  # aiohttp, botocore and others do not derive from OSError
            raise OSError(_reason(problem)) from problem

    def _size(self, path: str) -> int:
        return int((self._infos.get(path) or self._fs.info(path))["size"])


def loader(
    place: str, max_bytes: int = MAX_FILE_BYTES, *, private: bool = False
) -> Callable[[], bytes]:
    """A function that reads a path of this machine or an address; it raises only OSError."""
    if not is_remote(place):
        return partial(bounded.read_file, place, max_bytes)
    return partial(_read_address, place, max_bytes, private)


def stamp(path: Path | str) -> str:
    """A text that changes with every change of a file of this machine.

    It is "" where the file changed just now, or cannot be read. The time of the last change of its
    inode is part of it, which nobody can set back.
    """
    try:
        info = os.stat(path)
    except (OSError, ValueError):  # ValueError for a name that no file can have
        return ""
    if time.time() - info.st_ctime < UNSETTLED_SECONDS:
        return ""
    state = info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
    return _short(f"{os.path.abspath(path)!r} {state}")


def opened(place: Path | str, max_bytes: int | None = None, *, private: bool = False) -> IO[bytes]:
    """A file of this machine, or a temporary copy of one behind an address.

    A copy, because not every server allows seeking. Raises FieldmarkError where there is no file,
    or where a copy would be larger than the limit.
    """
    if is_remote(place):
        with TemporaryDirectory() as folder:
            Address(str(place), private=private).copy(Path(folder) / "copy", max_bytes)
            return (Path(folder) / "copy").open("rb")  # it exists until it is closed
    try:
        return bounded.open_file(place)
    except OSError as problem:
        raise FieldmarkError(
            f"{place} cannot be opened: {problem.strerror or problem}; change `images:` in "
            f"params.yaml"
        ) from problem


def _bucket(scheme: str, url: str) -> Any:
    """fsspec's file system of a bucket, with the options that the address holds.

    fsspec's own parsing of addresses is not used, since it follows chains of them.
    """
    kind = fsspec.get_filesystem_class(scheme)
    return kind(**kind._get_kwargs_from_urls(url))


def _read_address(url: str, max_bytes: int, private: bool) -> bytes:
    try:
        place = Address(url, private=private)
    except FieldmarkError as problem:
        raise OSError(str(problem)) from problem
    return place.read(max_bytes)


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _reason(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        where = redacted(str(problem))
        return f"not found: {os.path.basename(where) or where}"
    return one_line(problem)
