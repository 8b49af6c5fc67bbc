"""Pictures of files, of the files below folders and of videos, in order; what cannot be read comes
with the reason.
"""

import mimetypes
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import FieldmarkError
from pipeline.compute import parallel
from pipeline.pixels import images
from pipeline.sources import Item, Skipped, signatures, video
from pipeline.sources.layout import Placed
from pipeline.sources.names import hidden, printable

AHEAD = 1  # pictures a core that are decoded before they are asked for: one may have 300 MB


class Picture(NamedTuple):
    """One image on its way: RGB pixels uint8 (h, w, 3), or why there are none."""

    name: str
    pixels: np.ndarray | None
    error: str = ""


def pictures(paths: Sequence[Path], *, every_seconds: float, max_pixels: int) -> Iterator[Picture]:
    """Of files, of the files below folders, and a frame of each video every so often; what cannot
    be read has an error.

    Raises FieldmarkError at once for a path that is not there: nobody waits for a model to be told.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FieldmarkError(f"{', '.join(missing)}: there is no such file or folder")
    decode = partial(_decoded, max_pixels=max_pixels)
    return parallel.in_order(decode, _items(paths, every_seconds), AHEAD)


def _items(paths: Sequence[Path], every_seconds: float) -> Iterator[Item | Skipped]:
    for named, path in ((given, file) for given in paths for file in _files(given)):
        if path != named and path.exists() and not path.is_file():
            yield Skipped(
                printable(str(path)), "neither a file nor a folder"
            )  # a pipe would be waited for, as it should where it is named
        elif (mimetypes.guess_type(path.name)[0] or "").startswith("video/"):
            placed = Placed(printable(str(path)), path, "", "")
            yield from video.frames(
                placed, every_seconds=every_seconds, scene_change=None, min_difference=0.0
            )
        else:
            yield Item(printable(str(path)), path.read_bytes, "")


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or the files below the folder, sorted; without hidden ones and the litter of
    file managers.
    """
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not hidden(name))
        yield from (Path(folder, name) for name in sorted(names) if not hidden(name))


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
