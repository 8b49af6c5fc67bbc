"""A cache of arrays by key, in files that are written as values come, so that a killed run goes on where it stopped.

<folder>/<first key>-<n>.npz   keys bytes (n,), values (n, ...)
Nothing is ever changed in place, and any file may be deleted.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import store

Row = tuple[bytes, np.ndarray]


def read(folder: Path) -> Iterator[Iterator[Row]]:
    """The rows of one file after the other."""
    return (_rows(file) for file in sorted(folder.glob("*.npz")))


def write(folder: Path, rows: list[Row]) -> None:
    """A file of these rows, named when it is whole; none where there are no rows."""
    if rows:
        with store.whole(folder / f"{rows[0][0].decode()}-{len(rows)}.npz") as half, half.open("wb") as file:
            np.savez(file, keys=np.array([key for key, _ in rows]), values=np.stack([value for _, value in rows]))


def _rows(file: Path) -> Iterator[Row]:
    """Nothing, and the file is gone, where it is damaged: a disk was full, or the machine lost power."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:  # numpy leaves a damaged file open
            keys, values = stored["keys"], stored["values"]
        if len(keys) == len(values):
            return zip(keys.tolist(), values, strict=True)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):  # whatever a file cut short looks like
        pass
    file.unlink(missing_ok=True)
    return iter(())
