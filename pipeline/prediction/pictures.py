"""Pictures from files, folders and videos, in order.

A file that cannot be read gives an entry with the reason.
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

STDOUT = 1  # the file descriptor
NO_FILE = {
    Kind.ODD: "neither a file nor a folder",
    Kind.LINK: "a link to a folder, which is not followed: name it beside the others",
}
AHEAD = 1  # pictures per core that are decoded in advance; one may take 300 MB


class Picture(NamedTuple):
    """One picture: RGB pixels uint8 (h, w, 3), or the reason why there are none.

    film: the video or camera that it is a frame of, "" for a photo; seconds: since that began.
    """

    name: str
    pixels: np.ndarray | None
    error: str = ""
    film: str = ""
    seconds: float = 0.0


class Own:
    """The outputs of this run, which it does not read.

    `left_out` lists the outputs of this or an earlier run that were among the input files.
    """

    def __init__(self, *outputs: Path) -> None:
        self.left_out: list[str] = []
        self._outputs = {_identity(STDOUT), *map(_identity, outputs)} - {None}

    def is_output(self, path: Path) -> bool:
        """Whether the path is one of the outputs under any name, or the target of stdout."""
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
    """Pictures of the files, of the files below folders, and of videos every `every_seconds`.

    A picture that cannot be read has an error. Raises FieldmarkError at once for a path that does
    not exist, so that nobody waits for the model first.
    """
    missing = [printable(str(path)) for path in paths if not path.exists()]
    if missing:
        raise FieldmarkError(f"{', '.join(missing)}: there is no such file or folder")
    decode = partial(_decoded, max_pixels=max_pixels)
    return parallel.in_order(decode, _items(paths, every_seconds, max_bytes, own or Own()), AHEAD)


def _items(
    paths: Sequence[Path], every_seconds: float, max_bytes: int, own: Own
) -> Iterator[Item | Skipped]:
    for entry in (entry for path in paths for entry in _entries(path, own)):
        if isinstance(entry, Skipped):
            yield entry
            continue
        path, name = entry, printable(str(entry))
        if signatures.is_video(head(path)):
            yield from video.frames(
                Placed(name, path, "", ""),
                every_seconds=every_seconds,
                scene_change=None,
                min_difference=0.0,
            )
        else:
            load = partial(bounded.read_file, path, max_bytes, pipes=True)
            yield Item(name, load, "")


def _entries(path: Path, own: Own) -> Iterator[Path | Skipped]:
    """The file itself, or the files below the folder."""
    if walk.kind(path) is Kind.FOLDER:
        yield from _below(path, own)
    elif own.is_output(path):
        own.left_out.append(printable(str(path)))
    else:
        yield path


def _below(folder: Path, own: Own) -> Iterator[Path | Skipped]:
    """Files before folders, sorted, without hidden files, system files and own outputs."""
    try:
        entries = [entry for entry in walk.entries(folder) if not entry.hidden]
    except OSError as problem:
        yield Skipped(printable(f"{folder}/"), f"cannot be listed: {problem.strerror}")
        return
    for path, kind, _ in entries:
        if kind is Kind.FILE and (own.is_output(path) or traces.is_own(head(path))):
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


def head(path: Path) -> bytes:
    """The first bytes; none where it is not a file or cannot be read, which is reported later."""
    try:
        if walk.kind(path) is not Kind.FILE:
            return b""  # a pipe can be read only once
        with path.open("rb") as file:
            return file.read(traces.HEAD_BYTES)
    except OSError:
        return b""


def _identity(output: Path | int) -> tuple[int, int] | None:
    """Device and inode of a file or folder; None where there is none, or it is a terminal or pipe."""
    try:
        info = os.stat(output)
    except OSError:
        return None
    on_disk = stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)
    return (info.st_dev, info.st_ino) if on_disk else None


def _decoded(entry: Item | Skipped, *, max_pixels: int) -> Picture:
    if isinstance(entry, Skipped):
        return Picture(entry.name, None, entry.reason)
    try:
        data = entry.load()
    except OSError as problem:
        return Picture(entry.name, None, f"cannot be read: {problem.strerror or problem}")
    try:
        pixels = images.decode(data, max_pixels=max_pixels)
    except images.BadImage as problem:
        return Picture(entry.name, None, signatures.named(data) or str(problem))
    at = entry.metadata.get("seconds")
    seconds = at if isinstance(at, float) else 0.0
    return Picture(entry.name, pixels, film=entry.group, seconds=seconds)
