"""A zip or a tar (plain, .gz, .bz2, .xz) of class folders; nothing is unpacked to disk.

It lies on this machine or behind an address. The rules are those of a folder (see layout). A single
folder around all class folders is ignored.
"""

import re
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from pipeline import redacted
from pipeline.sources import Item, Skipped, address, bounded, tars, zips
from pipeline.sources.layout import Node, Placed, grown
from pipeline.sources.layout import read as arranged
from pipeline.sources.levels import split_of
from pipeline.sources.names import hidden, printable


class Member(NamedTuple):
    """A file of the archive, or a folder (`load` is None); a reason to leave it out, or ""."""

    name: str
    reason: str
    load: Callable[[], bytes] | None
    position: int


Files = dict[tuple[str, ...], Member | None]  # by the parts of their names; None is a folder


def read(
    *,
    images: Path | str,
    max_member_megabytes: float,
    max_ratio: float,
    unlabelled: str | None = None,
    class_level: int | None = None,
    private_addresses: bool = False,
    max_bytes: int = bounded.MAX_FILE_BYTES,
) -> Iterator[Item | Skipped]:
    """Every member, by name; those of a compressed tar in the order stored.

    A compressed tar can only be read once, from front to back. A member larger than
    max_member_megabytes (or max_bytes) is left out, and so is the rest of a compressed tar that
    unpacks to more than max_ratio times its size. Raises FieldmarkError where there is no archive,
    or one without class folders. For `class_level` see layout.
    """
    archive = _Archive(
        address.opened(images, private=private_addresses),
        redacted(str(images)),
        min(round(max_member_megabytes * 1e6), max_bytes),
        max_ratio,
    )
    files: Files = {}
    for entry in archive.members():
        if isinstance(entry, Skipped):
            yield entry
            continue
        parts = tuple(part for part in entry.name.split("/") if part not in ("", "."))
        if reason := _why_not(entry, parts, files):
            yield Skipped(printable(entry.name), reason)
        elif parts:
            files[parts] = entry if entry.load else files.get(parts)
    placed = list(arranged(_inside(grown(files.items())), str(images), unlabelled, class_level))
    yield from archive.items(placed)


def _why_not(entry: Member, parts: tuple[str, ...], files: Files) -> str:
    """The reason to leave a member out, beside `files`, or ""."""
    unnamed = "a file without a name" if entry.load and not parts else ""
    twice = "the archive holds this name twice" if files.get(parts) else ""
    return _unsafe(entry.name) or entry.reason or unnamed or twice


class _Archive:
    """The open file, read by one thread at a time; closed when no item refers to it any more."""

    def __init__(self, stream: IO[bytes], where: str, max_bytes: int, max_ratio: float) -> None:
        weakref.finalize(self, stream.close)
        self.stream, self.where = stream, where
        self.max_bytes, self.max_ratio = max_bytes, max_ratio
        self.lock = threading.Lock()
        self.stamp = "" if address.is_remote(where) else address.stamp(where)
        self.in_order_only = False

    def members(self) -> Iterator[Member | Skipped]:
        if self.stream.read(2) == b"PK" or zipfile.is_zipfile(self.stream):
            members = zips.members(self.stream, self.where, self.max_bytes)
        else:
            self.in_order_only = tars.is_compressed(self.stream)
            members = tars.members(self.stream, self.where, self.max_bytes, self.max_ratio)
        for position, entry in enumerate(members):
            if isinstance(entry, Skipped):
                yield entry
            else:
                name, reason, load = entry
                yield Member(name, reason, partial(self._locked, load) if load else None, position)

    def items(self, placed: list[Placed[Member] | Skipped]) -> Iterator[Item | Skipped]:
        if self.in_order_only:
            placed = sorted(
                placed,
                key=lambda entry: -1 if isinstance(entry, Skipped) else entry.content.position,
            )
        for entry in placed:
            if isinstance(entry, Skipped):
                yield entry
            else:
                assert entry.content.load is not None
                load = _at_once(entry.content.load) if self.in_order_only else entry.content.load
                stamp = self.stamp and f"{self.stamp} {entry.content.position}"
                yield Item(entry.name, load, entry.label, given_split=entry.split, stamp=stamp)

    def _locked(self, load: Callable[[], bytes]) -> bytes:
        with self.lock:
            return load()


def _at_once(load: Callable[[], bytes]) -> Callable[[], bytes]:
    try:
        data = load()
    except OSError as problem:
        return partial(_raise, problem)
    return lambda: data


def _raise(problem: OSError) -> bytes:
    raise problem


def _unsafe(name: str) -> str:
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "absolute path in an archive"
    if ".." in name.split("/"):
        return "path that leads out of the archive"
    return ""


def _inside(root: Node[Member]) -> Node[Member]:
    """The folder around all class folders, where there is one."""
    nodes = _visible(root)
    while len(nodes) == 1 and nodes[0].children and not split_of(nodes[0].name):
        inner = _visible(nodes[0])
        if not any(node.children for node in inner):
            break
        root, nodes = nodes[0], inner
    return root


def _visible(folder: Node[Member]) -> list[Node[Member]]:
    assert folder.children is not None
    return [node for node in folder.children() if not hidden(node.name)]
