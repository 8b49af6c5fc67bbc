"""What lies in a folder of this machine, sorted.

The sources, `fieldmark predict` and the check before DVC starts share it.
"""

import os
import stat
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from pipeline.sources.names import hidden, printable


class Kind(Enum):
    """The kind of a directory entry, in words for people."""

    FILE = "a file, or a link to one"
    FOLDER = "a folder"
    LINK = "a link to a folder"
    DEAD = "link to nothing"
    ODD = "not a file but a pipe, socket or device"  # reading a pipe would wait for ever


class Entry(NamedTuple):
    """A name in a folder; hidden entries are always left out."""

    path: Path
    kind: Kind
    hidden: bool


def entries(folder: Path) -> list[Entry]:
    """Everything in the folder, sorted by printable name; raises OSError if it cannot be listed."""
    with os.scandir(folder) as listing:
        unsorted = [Entry(Path(entry.path), _kind(entry), hidden(entry.name)) for entry in listing]
    return sorted(unsorted, key=lambda entry: (printable(entry.path.name), entry.path.name))


def kind(path: Path) -> Kind:
    """The kind of a path by itself, behind its links."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return Kind.DEAD
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.FILE if stat.S_ISREG(mode) else Kind.ODD


def _kind(entry: os.DirEntry[str]) -> Kind:
    if not entry.is_symlink():
        if entry.is_dir(follow_symlinks=False):
            return Kind.FOLDER
        return Kind.FILE if entry.is_file(follow_symlinks=False) else Kind.ODD
    behind = kind(Path(entry.path))
    return Kind.LINK if behind is Kind.FOLDER else behind


def read_already(link: Path, top: str) -> str:
    """Where below `top` the folder behind the link is read in its own place, or "".

    top: a real path.
    """
    place = os.path.realpath(link)
    if place == top:
        return "."
    if not place.startswith(top.rstrip("/") + "/"):
        return ""
    inner = os.path.relpath(place, top)
    return "" if any(map(hidden, inner.split("/"))) else printable(inner)
