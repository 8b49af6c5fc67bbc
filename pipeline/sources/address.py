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

from pipeline import FieldmarkError, one_line
from pipeline.sources.layout import MAX_DEPTH, Node, grown

EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
}  # scheme -> the extra that installs it


# A file that changes twice within a tick of the clock keeps its time; the coarsest ticks are this
# long.
UNSETTLED_SECONDS = 2.0


def is_remote(images: Path | str) -> bool:
    """An address, as opposed to a path on this machine."""
    return "://" in str(images)


def local_or_remote(images: str) -> Path | str:
    """`images` of params.yaml as the sources take it."""
    return images if is_remote(images) else Path(images)


class Address:
    """A folder or a file, opened once; raises FieldmarkError where the scheme is unknown or not
    installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme = url.partition("://")[0]
        try:
            self._fs, self._path = fsspec.core.url_to_fs(url)
        except ImportError as problem:
            extra = EXTRAS.get(scheme)
            how = (
                f"uv pip install '.[{extra}]'" if extra else "install the package that fsspec names"
            )
            raise FieldmarkError(
                f"{url}: {scheme}:// needs a package that is not installed: {how} ({problem})"
            ) from problem
        except ValueError as problem:
            raise FieldmarkError(f"{url}: {problem}") from problem
        self._tags: dict[str, str] = {}

    def tree(self) -> Node[str]:
        """All files below; raises FieldmarkError where they cannot be asked for."""
        root = self._fs._strip_protocol(self._path).rstrip("/") + "/"
        try:
            paths = self._on_the_web(root) if root.startswith("http") else self._below()
        except Exception as problem:  # each file system has errors of its own
            raise FieldmarkError(f"{self.url} cannot be listed: {_said(problem)}") from problem
        files = sorted(path for path in paths if path.startswith(root) and not path.endswith("/"))
        named = [
            (unquote(path[len(root) :]) if root.startswith("http") else path[len(root) :], path)
            for path in files
        ]
        return grown(
            (tuple(part for part in name.split("/") if part), path) for name, path in named
        )

    def _below(self) -> list[str]:
        found = self._fs.find(self._path, detail=True)
        self._tags = {
            path: str(info.get("ETag") or info.get("etag") or "") for path, info in found.items()
        }
        return [*found]

    def stamp(self, path: str) -> str:
        """The stamp of a file (see Item) by its ETag, which S3 and GCS give to each content; ""
        where a server gives none.
        """
        tag = self._tags.get(path, "")
        return tag and _short(f"{self._fs.protocol} {path} {tag}")

    def _on_the_web(self, root: str) -> list[str]:
        """By the links of a web server's pages; fsspec's own walk would follow the one to the
        folder above.
        """
        found, waiting = {root}, [root]
        while waiting:
            page = waiting.pop()
            links = {info["name"] for info in self._fs.ls(page, detail=True)}
            new = {link for link in links - found if link.startswith(page) and "?" not in link}
            found |= new
            waiting.extend(
                link
                for link in new
                if link.endswith("/") and link.count("/") - root.count("/") <= MAX_DEPTH
            )
        return [*found]

    def copy(self, to: Path) -> None:
        """The file at the address, piece by piece; raises FieldmarkError where it cannot be
        read.
        """
        try:
            self._fs.get_file(self._path, str(to))
        except Exception as problem:
            raise FieldmarkError(f"{self.url} cannot be read: {_said(problem)}") from problem

    def loader(self, path: str) -> Callable[[], bytes]:
        """Reads a file of the same file system; raises OSError, and nothing else."""
        return partial(_read, self._fs, path)


def loader(place: str) -> Callable[[], bytes]:
    """Reads a path of this machine or the file at an address; what it raises is OSError, and
    nothing else.
    """
    if not is_remote(place):
        return partial(_read_local, Path(place))
    return partial(_read_address, place)


def stamp(path: Path | str) -> str:
    """Changes with whatever changes a file of this machine; "" where it changed just now, or cannot
    be looked at.

    The time of the last change of its inode is part of it, which nobody can set back.
    """
    try:
        info = os.stat(path)
    except (OSError, ValueError):  # the second of a name that no file can have
        return ""
    if time.time() - info.st_ctime < UNSETTLED_SECONDS:
        return ""
    found = info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
    return _short(f"{os.path.abspath(path)!r} {found}")


def opened(place: Path | str) -> IO[bytes]:
    """A file here, or a temporary copy of one behind an address; raises FieldmarkError where there
    is none.

    A copy, because not every server lets one seek.
    """
    if is_remote(place):
        with TemporaryDirectory() as folder:
            Address(str(place)).copy(Path(folder) / "copy")
            return (Path(folder) / "copy").open("rb")  # lives on until it is closed
    try:
        return Path(place).open("rb")
    except OSError as problem:
        raise FieldmarkError(
            f"{place} cannot be opened: {problem.strerror}; change `images:` in params.yaml"
        ) from problem


def _read(fs: Any, path: str) -> bytes:
    try:
        return bytes(fs.cat_file(path))
    except Exception as problem:  # aiohttp, botocore and others do not derive theirs from OSError
        raise OSError(_said(problem)) from problem


def _read_address(url: str) -> bytes:
    try:
        place = Address(url)
    except FieldmarkError as problem:
        raise OSError(str(problem)) from problem
    return _read(place._fs, place._path)


def _read_local(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise OSError(
            "not a file but a folder, pipe, socket or device"
        )  # reading a pipe would wait for ever
    try:
        return path.read_bytes()
    except ValueError as problem:
        raise OSError("a name that no file can have") from problem


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _said(problem: Exception) -> str:
    if isinstance(problem, FileNotFoundError):
        return f"not found: {os.path.basename(str(problem)) or problem}"
    return one_line(problem)
