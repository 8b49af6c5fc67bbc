"""Pictures of files, of the files below folders and of videos, in order; what cannot be read comes
with the reason.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.pixels import images
from pipeline.prediction import traces
from pipeline.sources import Item, Skipped, bounded, signatures, video, walk
from pipeline.sources.layout import Placed
from pipeline.sources.names import printable
from pipeline.sources.walk import Kind

STDOUT = 1  # its number in every process
NO_FILE = {
    Kind.ODD: "neither a file nor a folder",
    Kind.LINK: "a link to a folder, which is not followed: name it beside the others",
}
AHEAD = 1  # pictures a core that are decoded before they are asked for: one may have 300 MB


class Picture(NamedTuple):
    """One image on its way: RGB pixels uint8 (h, w, 3), or why there are none."""

    name: str
    pixels: np.ndarray | None
    error: str = ""


class Own:
    """What this run writes, which it does not read; `left_out` is what of it, or of an earlier
    run's, lay in its way.
    """

    def __init__(self, *outputs: Path) -> None:
        self.left_out: list[str] = []
        self._outputs = {_identity(STDOUT), *map(_identity, outputs)} - {None}

    def is_output(self, path: Path) -> bool:
        """Whether the path is one of the outputs under any name, or what stdout goes to."""
        try:
            info = path.stat()
        except OSError:
            return False
        return (info.st_dev, info.st_ino) in self._outputs


def pictures(
    paths: Sequence[Path],
    *,
    every_seconds: float,
    max_pixels: int,
    max_bytes: int = bounded.MAX_FILE_BYTES,
    own: Own | None = None,
) -> Iterator[Picture]:
    """Of files, of the files below folders, and a frame of each video every so often; what cannot
    be read has an error.

    Raises FieldmarkError at once for a path that is not there: nobody waits for a model to be told.
    """
    missing = [printable(str(path)) for path in paths if not path.exists()]
    if missing:
        raise FieldmarkError(f"{', '.join(missing)}: there is no such file or folder")
    decode = partial(_decoded, max_pixels=max_pixels)
    return parallel.in_order(decode, _items(paths, every_seconds, max_bytes, own or Own()), AHEAD)


def _items(
    paths: Sequence[Path], every_seconds: float, max_bytes: int, own: Own
) -> Iterator[Item | Skipped]:
    for entry in (entry for given in paths for entry in _entries(given, own)):
        if isinstance(entry, Skipped):
            yield entry
            continue
        path, name = entry, printable(str(entry))
        if signatures.is_video(_head(path)):
            yield from video.frames(
                Placed(name, path, "", ""),
                every_seconds=every_seconds,
                scene_change=None,
                min_difference=0.0,
            )
        else:
            load = partial(bounded.read_file, path, max_bytes, pipes=True)
            yield Item(name, load, "")


def _entries(given: Path, own: Own) -> Iterator[Path | Skipped]:
    """The file itself, or what lies below the folder."""
    if walk.kind(given) is Kind.FOLDER:
        yield from _below(given, own)
    elif own.is_output(given):
        own.left_out.append(printable(str(given)))
    else:
        yield given


def _below(folder: Path, own: Own) -> Iterator[Path | Skipped]:
    """Files before folders, sorted; without hidden ones, litter and what this command writes."""
    try:
        entries = [entry for entry in walk.entries(folder) if not entry.hidden]
    except OSError as problem:
        yield Skipped(printable(f"{folder}/"), f"cannot be listed: {problem.strerror}")
        return
    for path, kind, _ in entries:
        if kind is Kind.FILE and (own.is_output(path) or traces.is_own(_head(path))):
            own.left_out.append(printable(str(path)))
        elif kind is Kind.FILE:
            yield path
        elif kind is not Kind.FOLDER:
            yield Skipped(printable(str(path)), NO_FILE.get(kind, kind.value))
    for path, kind, _ in entries:
        if kind is Kind.FOLDER and own.is_output(path):
            own.left_out.append(printable(f"{path}/"))
        elif kind is Kind.FOLDER:
            yield from _below(path, own)


def _head(path: Path) -> bytes:
    """The first bytes; none of what is no file, or cannot be read, which is said later."""
    try:
        if walk.kind(path) is not Kind.FILE:
            return b""  # a pipe that is named is waited for, but read only once
        with path.open("rb") as file:
            return file.read(traces.HEAD_BYTES)
    except OSError:
        return b""


def _identity(output: Path | int) -> tuple[int, int] | None:
    """Of a file or folder, whatever it is called; None of what is not there, and of a terminal or
    pipe.
    """
    try:
        info = os.stat(output)
    except OSError:
        return None
    is_kept = stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)
    return (info.st_dev, info.st_ino) if is_kept else None


def _decoded(entry: Item | Skipped, *, max_pixels: int) -> Picture:
    if isinstance(entry, Skipped):
        return Picture(entry.name, None, entry.reason)
    try:
        data = entry.load()
    except OSError as problem:
        return Picture(entry.name, None, f"cannot be read: {problem.strerror or problem}")
    try:
        return Picture(entry.name, images.decode(data, max_pixels=max_pixels))
    except images.BadImage as problem:
        return Picture(entry.name, None, signatures.named(data) or str(problem))
