"""Pixels on disk, in few large files: originals packed in Parquet, arrays mapped from .npy.

images-00000.parquet, ...   id (str), bytes (the untouched file); uncompressed, since images already are
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike

T = TypeVar("T")

SHARD_BYTES = 64 * 2**20  # of a packed file, and so what is held in memory
GROUP_BYTES = 2**20  # what is read to get at a single image
SCHEMA = pa.schema([("id", pa.string()), ("bytes", pa.large_binary())])


def write_images(folder: Path, items: Iterable[tuple[str, bytes]], shard_bytes: int = SHARD_BYTES) -> None:
    """Pack (id, bytes) in the order given; a shard ends before it would hold more than shard_bytes.

    One shard at a time is in memory. An image larger than that has a shard to itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(_shards(items, shard_bytes)):
        with pq.ParquetWriter(
            folder / f"images-{number:05d}.parquet",
            SCHEMA,
            compression="none",
            use_dictionary=False,  # no two images are alike
            write_statistics=False,  # would copy a smallest and a largest image into the footer
        ) as file:
            for group in _shards(shard, GROUP_BYTES):
                ids, contents = zip(*group, strict=True)
                file.write_table(pa.table({"id": ids, "bytes": contents}, schema=SCHEMA))


def read_images(folder: Path, batch: int) -> Iterator[tuple[str, bytes]]:
    """(id, bytes) in the order written, `batch` images at a time in memory."""
    for path in sorted(folder.glob("images-*.parquet")):
        with pq.ParquetFile(path) as shard:
            for part in shard.iter_batches(batch_size=batch):
                yield from zip(part["id"].to_pylist(), part["bytes"].to_pylist(), strict=True)


class PackedImages:
    """The packed images of a folder by id: only the ids are in memory."""

    def __init__(self, folder: Path) -> None:
        self._places: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(folder.glob("images-*.parquet")):
            with pq.ParquetFile(path) as shard:
                for group in range(shard.num_row_groups):
                    ids = shard.read_row_group(group, columns=["id"])["id"].to_pylist()
                    self._places |= {id: (path, group, row) for row, id in enumerate(ids)}

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def __getitem__(self, id: str) -> bytes:
        """The untouched bytes; KeyError for an id that is not there. Threads may share the object."""
        path, group, row = self._places[id]
        with pq.ParquetFile(path) as shard:
            data: bytes = shard.read_row_group(group, columns=["bytes"])["bytes"][row].as_py()
        return data


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter; only one list is in memory."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def open_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap:
    """A new .npy file of zeros to fill row by row: what is assigned goes to disk, not to memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)


def read_array(path: Path) -> np.ndarray:
    """A .npy file mapped from disk, read-only; pickled objects are refused with ValueError."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _shards(items: Iterable[tuple[str, bytes]], shard_bytes: int) -> Iterator[list[tuple[str, bytes]]]:
    shard: list[tuple[str, bytes]] = []
    size = 0
    for item in items:
        if shard and size + len(item[1]) > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(item)
        size += len(item[1])
    if shard:
        yield shard
