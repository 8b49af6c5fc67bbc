"""The one memory of results, by the content of all that they depend on.

<cache>/<kind>/<key>.npz       a result: arrays by name
<cache>/<kind>/<key>/*.npz     one result per item: keys bytes (n,), values (n, ...), in files that
                               are written as values come, so that a killed run goes on

Files are written whole and never changed. Each may be deleted at any time, also while others use
it. A damaged one is computed again. Together they stay below FIELDMARK_CACHE_GB (10); the least
recently used go first. sources/ledger keeps files beside them, which are no results.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from pipeline import FieldmarkError, config
from pipeline.storage import store
from pipeline.storage.code import code_hash

Arrays = dict[str, np.ndarray]
Keys = Shaped[np.ndarray, " n"]  # bytes of one length
Row = tuple[bytes, np.ndarray]
ITEM = np.dtype("S32")  # of a key by `item`

AT_ONCE = 10_000  # rows of a mapped array, of which no more are in memory
LIMIT_GB = 10.0
FREED = 0.1  # share of the limit that is free after room was made
LOOK_AFTER = 0.02  # share of the limit that a process writes between two looks at the whole
NOT_OURS = ("ingest",)  # the folder of sources/ledger
_written: list[int] = []  # bytes, since the last look; empty before the first


class File(NamedTuple):
    """One file of the memory: when it was last used, in nanoseconds, and its size."""

    used: int
    n_bytes: int
    path: Path


def key(
    inputs: Mapping[str, Any],
    *arrays: np.ndarray,
    code: Sequence[str],
    libraries: Sequence[str] = (),
) -> str:
    """The key of a result: a hash of everything that it depends on.

    inputs: plain values. arrays: their content; they may be mapped from disk. code: the modules
    that compute the result, with all that they import. libraries: packages whose versions count.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        for start in range(0, len(array) if array.ndim else 0, AT_ONCE):
            digest.update(np.ascontiguousarray(array[start : start + AT_ONCE]).data)
            store.release(array)
        if not array.ndim:
            digest.update(array.tobytes())
    by = [code_hash(*sorted(set(code))), {name: version(name) for name in sorted(libraries)}]
    digest.update(json.dumps([inputs, by], sort_keys=True).encode())
    return digest.hexdigest()


def item(content: np.ndarray) -> bytes:
    """The key of a row, such as an image, by its content: 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(content).data, digest_size=16).hexdigest().encode()


def once(kind: str, key: str, compute: Callable[[], Arrays]) -> Arrays:
    """The stored result of that key; else it is computed and stored."""
    result = get(kind, key)
    if result is None:
        result = compute()
        put(kind, key, result)
    return result


def array(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The same for a result that is one array."""
    return once(kind, key, lambda: {"values": compute()})["values"]


def get(kind: str, key: str) -> Arrays | None:
    """The stored result of that key, or None."""
    return _read(_root() / kind / f"{key}.npz")


def put(kind: str, key: str, arrays: Arrays) -> None:
    """Store a result."""
    _write(_root() / kind / f"{key}.npz", arrays)


def forget(kind: str, key: str) -> None:
    """Delete a result that is no longer needed."""
    (_root() / kind / f"{key}.npz").unlink(missing_ok=True)


def read_rows(kind: str, key: str) -> Iterator[tuple[Keys, np.ndarray]]:
    """Keys and values of one file after the other."""
    for file in sorted(_below(_root() / kind / key)):
        stored = _read(file) if file.suffix == ".npz" else None
        if stored and stored.keys() == {"keys", "values"}:
            yield stored["keys"], stored["values"]


def write_rows(kind: str, key: str, rows: Sequence[Row]) -> None:
    """A file of these rows; none where there are no rows."""
    if rows:
        name = f"{rows[0][0].decode()}-{len(rows)}.npz"
        keys, values = zip(*rows, strict=True)
        arrays = {"keys": np.array(keys), "values": np.stack(values)}
        _write(_root() / kind / key / name, arrays)


class Rows:
    """Which rows of an array have a key.

    It takes 8 bytes per row and a sorted copy of the keys; a dict would take some 300 bytes per
    row.
    """

    def __init__(self, keys: Keys) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def of(self, queries: Keys) -> tuple[Int64[np.ndarray, " r"], Int64[np.ndarray, " r"]]:
        """The rows that have one of the keys, and the position of that key among `queries`.

        Several rows may have the same key.
        """
        first, end = (np.searchsorted(self._sorted, queries, side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(queries)), end - first)
        return self._order[np.concatenate([np.arange(0), *map(np.arange, first, end)])], which


def files(kind: str | None = None) -> Iterator[tuple[str, File]]:
    """All files, or those of a kind, each with its kind; half-written ones included."""
    for path in _below(_root() / kind if kind else _root()):
        name = path.relative_to(_root()).parts[0]
        with suppress(FileNotFoundError):  # deleted meanwhile
            if name not in NOT_OURS and path.parent != _root():
                info = path.stat()
                yield name, File(info.st_mtime_ns, info.st_size, path)


def _below(folder: Path) -> Iterator[Path]:
    """The files in a folder and its folders; of one that is deleted meanwhile those met before."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def limit_bytes() -> float:
    """The limit of all files; raises FieldmarkError where FIELDMARK_CACHE_GB is not above 0."""
    setting = os.environ.get("FIELDMARK_CACHE_GB", str(LIMIT_GB))
    with suppress(ValueError):
        if float(setting) > 0:
            return float(setting) * 1e9
    raise FieldmarkError(f"FIELDMARK_CACHE_GB is {setting!r}; give a number of gigabytes above 0")


def make_room() -> None:
    """Delete the least recently used files where all together exceed the limit."""
    limit = limit_bytes()
    present = sorted(file for _, file in files())
    total = sum(file.n_bytes for file in present)
    if total <= limit:
        return
    for file in present:
        file.path.unlink(missing_ok=True)
        total -= file.n_bytes
        if total <= (1 - FREED) * limit:
            return


def _read(file: Path) -> Arrays | None:
    """The arrays of a file; None, and the file is deleted, where it is damaged.

    That happens when a disk was full, or the machine lost power.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        os.utime(file)  # its last use
    except (FileNotFoundError, NotADirectoryError):
        return None
    except MemoryError:
        raise
    except Exception:  # whatever a file that was cut short or overwritten looks like to numpy
        file.unlink(missing_ok=True)
        return None
    return arrays


def _write(file: Path, arrays: Arrays) -> None:
    for _ in range(2):  # once more where its folder is deleted meanwhile
        with suppress(FileNotFoundError, FileExistsError):
            with store.whole(file) as half, half.open("wb") as opened:
                np.savez(opened, **arrays)  # type: ignore[arg-type]
            break
    n_bytes = sum(each.nbytes for each in arrays.values())
    if _written[:1] == [] or _written[0] + n_bytes > LOOK_AFTER * limit_bytes():
        _written[:] = [0]
        make_room()
    _written[0] += n_bytes


def _root() -> Path:
    return config.cache_folder()
