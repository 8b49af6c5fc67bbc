"""Pixels on disk, in few large files: originals packed in Parquet, arrays mapped from .npy.

images-00000.parquet, ... have columns id (str) and bytes (the untouched file), uncompressed, since
images are compressed already.
"""

import errno
import mmap
import os
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, Shaped
from numpy.typing import DTypeLike

from pipeline import config

T = TypeVar("T")

SHARD_BYTES = 64 * 2**20  # per packed file, and so in memory
SHARD_IMAGES = 8192  # of small images per shard, which bounds what a kill costs
GROUP_BYTES = 2**20  # the read size for a single image
READ_IMAGES = 64  # in memory while all are read
SCHEMA = pa.schema([("id", pa.string()), ("bytes", pa.large_binary())])


def shard_path(folder: Path, number: int) -> Path:
    """The path of a shard, where the reading functions expect it."""
    return folder / f"images-{number:05d}.parquet"


def write_shard(path: Path, items: Iterable[tuple[str, bytes]]) -> None:
    """Write one file of (id, bytes), which are drawn one portion at a time."""
    with pq.ParquetWriter(
        path,
        SCHEMA,
        compression="none",
        use_dictionary=False,  # no two images are alike
        write_statistics=False,  # they would copy two images into the footer
    ) as file:
        for group in portions(items, lambda item: len(item[1]), GROUP_BYTES, SHARD_IMAGES):
            ids, contents = zip(*group, strict=True)
            file.write_table(pa.table({"id": ids, "bytes": contents}, schema=SCHEMA))


def read_images(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(id, bytes) in the order written."""
    for path in _files(folder):
        with pq.ParquetFile(path) as shard:
            for part in shard.iter_batches(batch_size=READ_IMAGES):
                yield from zip(part["id"].to_pylist(), part["bytes"].to_pylist(), strict=True)


def ids(folder: Path) -> Shaped[np.ndarray, " n"]:
    """The ids of all images in the order written, as UTF-8.

    A file's SHA-256 takes 64 bytes so, and 113 as a str.
    """
    return _ids(_files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("images-*.parquet"))


def _ids(files: Sequence[Path]) -> Shaped[np.ndarray, " n"]:
    parts = [np.empty(0, "S1")]
    for path in files:
        with pq.ParquetFile(path) as shard:
            parts += [
                np.array([_key(id) for id in part["id"].to_pylist()])
                for part in shard.iter_batches(columns=["id"])
            ]
    return np.concatenate(parts)


class PackedImages:
    """The packed images of a folder, by number or by id. Threads may share the object.

    The piece that was read last is in memory and, as soon as an id is looked up, all ids: some 72
    bytes each.
    """

    def __init__(self, folder: Path) -> None:
        self._files = _files(folder)
        self._last: tuple[tuple[Path, int], list[bytes]] = (folder, -1), []
        self._pieces: list[tuple[Path, int]] = []
        self._starts = [0]
        for path in self._files:
            shard = pq.read_metadata(path)
            for group in range(shard.num_row_groups):
                self._pieces.append((path, group))
                self._starts.append(self._starts[-1] + shard.row_group(group).num_rows)

    def __len__(self) -> int:
        return self._starts[-1]

    def __contains__(self, id: str) -> bool:
        return self._number(id) is not None

    def __getitem__(self, id: str) -> bytes:
        """The untouched bytes; KeyError for an id that is not there."""
        number = self._number(id)
        if number is None:
            raise KeyError(id)
        return self.at(number)

    def at(self, number: int) -> bytes:
        """The untouched bytes of the image with this number, from 0, in the order written."""
        piece = bisect_right(self._starts, number) - 1
        last = self._last
        if last[0] != self._pieces[piece]:
            path, group = self._pieces[piece]
            with pq.ParquetFile(path) as shard:
                last = self._last = (
                    (path, group),
                    shard.read_row_group(group, columns=["bytes"])["bytes"].to_pylist(),
                )
        return last[1][number - self._starts[piece]]

    @cached_property
    def _numbers(self) -> tuple[Shaped[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """All ids, sorted, and the number of each."""
        written = _ids(self._files)
        order = np.argsort(written, kind="stable")
        return written[order], order

    def _number(self, id: str) -> int | None:
        key, (sorted_ids, numbers) = _key(id), self._numbers
        if len(key) > sorted_ids.itemsize:  # numpy would widen all other ids
            return None
        at = int(np.searchsorted(sorted_ids, np.bytes_(key)))
        return int(numbers[at]) if at < len(sorted_ids) and sorted_ids[at] == key else None


def _key(id: str) -> bytes:
    return id.encode("utf-8", "surrogatepass")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter; only one list is in memory."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def portions(
    items: Iterable[T], size: Callable[[T], int], most_size: int, most: int
) -> Iterator[list[T]]:
    """Lists of items, each within `most_size` together and `most` items.

    A larger item has a list to itself. Only one list is in memory, and the item after it. Items
    that the caller removes from its list are not held here either.
    """
    portion: list[T] = []
    together = 0
    for item in items:
        if portion and (together + size(item) > most_size or len(portion) == most):
            yield portion
            portion, together = [], 0
        portion.append(item)
        together += size(item)
    if portion:
        yield portion


@contextmanager
def whole(path: Path, half: Path | None = None) -> Iterator[Path]:
    """A temporary path to write a file to; it is renamed to `path` when it is complete.

    So nobody reads half a file. half: the temporary path, on the same disk, to which only one
    process writes at a time, over what a kill left there; by default a new one beside the file.
    What is not completed is deleted.
    """
    config.made(path.parent)
    half = half or path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield half
        half.replace(path)
    except OSError as error:
        if error.filename is None:  # a full disk does not name the file
            error.filename = str(path)
        raise
    finally:
        half.unlink(missing_ok=True)


def open_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap:
    """A new .npy file of zeros to fill row by row; what is assigned goes to disk, not to memory.

    Raises OSError where the disk has no room for all of it: a mapped file that runs out of room
    later ends the process by a signal, without a message.
    """
    config.made(path.parent)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot
                    raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def read_array(path: Path) -> np.ndarray:
    """A .npy file mapped from disk, read-only; pickled objects are refused with ValueError."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def release(array: np.ndarray) -> None:
    """Free the memory of what was read from or written to a mapped file; nothing is lost.

    The touched pages of a map count as memory of the process until the system needs it. Other
    arrays stay in memory.
    """
    mapped: object = array
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)
