"""A cache of arrays by key, in files that are written as values come, so that a killed run goes on
where it stopped.

<folder>/<first key>-<n>.npz   keys bytes (n,), values (n, ...)
Nothing is ever changed in place, and any file may be deleted.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped

from pipeline.storage import store

Keys = Shaped[np.ndarray, " n"]  # bytes of one length
Row = tuple[bytes, np.ndarray]


class Rows:
    """Which rows of an array have a key: beside the array itself 8 bytes a row and a sorted copy,
    where a dict takes some 300.
    """

    def __init__(self, keys: Keys) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def of(self, asked: Keys) -> tuple[Int64[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
        """Rows that have one of the keys, and which of those asked for each has; several rows may
        have the same.
        """
        first, end = (np.searchsorted(self._sorted, asked, side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(asked)), end - first)
        return self._order[np.concatenate([np.arange(0), *map(np.arange, first, end)])], which


def read(folder: Path) -> Iterator[tuple[Keys, np.ndarray]]:
    """Keys and values of one file after the other."""
    return filter(None, map(_stored, sorted(folder.glob("*.npz"))))


def write(folder: Path, rows: list[Row]) -> None:
    """A file of these rows, named when it is whole; none where there are no rows."""
    if rows:
        with (
            store.whole(folder / f"{rows[0][0].decode()}-{len(rows)}.npz") as half,
            half.open("wb") as file,
        ):
            np.savez(
                file,
                keys=np.array([key for key, _ in rows]),
                values=np.stack([value for _, value in rows]),
            )


def _stored(file: Path) -> tuple[Keys, np.ndarray] | None:
    """None, and the file is gone, where it is damaged: a disk was full, or the machine lost
    power.
    """
    try:
        with (
            file.open("rb") as opened,
            np.load(opened, allow_pickle=False) as stored,
        ):  # numpy leaves a damaged file open
            keys, values = stored["keys"], stored["values"]
        if len(keys) == len(values):
            return keys, values
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        zipfile.BadZipFile,
    ):  # whatever a file cut short looks like
        pass
    file.unlink(missing_ok=True)
    return None
