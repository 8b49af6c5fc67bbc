"""Arrays that are filled row by row; a run goes on where a killed one stopped.

<name>.npy   the arrays
done         when the machine started, in seconds, and how many items have their rows

The folder must belong to one configuration and input. After a kill, the system's buffers still
reach the disk; after a power cut they do not. So after a restart of the machine all begins anew.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import DTypeLike

from pipeline.storage import store

Kind = tuple[tuple[int, ...], DTypeLike]  # shape and type
EVERY = 1024  # items between two marks

_MARK = "done"
_SAME_START = 60.0  # seconds; clocks may be set


def begin(folder: Path, kinds: Mapping[str, Kind]) -> tuple[int, dict[str, np.ndarray]]:
    """How many items are done, and the arrays to fill, mapped from disk."""
    mark, files = folder / _MARK, {name: folder / f"{name}.npy" for name in kinds}
    started, done = (
        (float(word) for word in mark.read_text(encoding="utf-8").split())
        if mark.exists()
        else (0.0, 0.0)
    )
    if abs(started - psutil.boot_time()) < _SAME_START and all(
        file.exists() for file in files.values()
    ):
        return int(done), {
            name: np.load(file, mmap_mode="r+", allow_pickle=False) for name, file in files.items()
        }
    mark.unlink(missing_ok=True)
    return 0, {
        name: store.open_array(files[name], shape, kind) for name, (shape, kind) in kinds.items()
    }


def mark(folder: Path, done: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Note that so many items are done, and free the memory of what was written.

    A killed run goes on from there.
    """
    for array in arrays.values():
        store.release(array)
    with store.whole(folder / _MARK) as half:
        half.write_text(f"{psutil.boot_time()} {done}", encoding="utf-8")


def take(folder: Path, name: str, to: Path) -> None:
    """Move a filled array to its place; the next run would begin anew."""
    (folder / _MARK).unlink(missing_ok=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder / f"{name}.npy", to)
