"""What earlier ingests verified and packed, so that the next one reads only new files.

<cache>/ingest/seen.sqlite
    files: a stamp (see address.stamp) -> what the file is, as JSON
    shards: each packed file with its size and time
<cache>/ingest/images-*.parquet
    packed images; those in data/ingest are the same files, by hard links

This is not part of storage/memo. The memo knows a result by the content that it came from; the
ledger knows a file by its stamp (size and time), so that its content need not be read at all. Its
packed images are links to data/ingest: they take no space, and deleting them by age would free
none.

A shard is whole before it is named, and named before its files are recorded; so a kill at any
moment costs what was read since the last shard. The folder may be deleted whenever no ingest is
running.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from pipeline import config
from pipeline.pixels import images
from pipeline.pixels.images import Probe
from pipeline.sources import Item, Skipped, bounded, signatures
from pipeline.storage import store
from pipeline.storage.code import code_hash

TABLES = """
CREATE TABLE IF NOT EXISTS files (stamp TEXT PRIMARY KEY, outcome TEXT, run INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shards (name TEXT PRIMARY KEY, n_bytes INTEGER, changed INTEGER);
CREATE TABLE IF NOT EXISTS rules (rules TEXT);
"""

UNREADABLE = "cannot be read: "


class Verified(NamedTuple):
    """An item whose bytes decode; `id` is their SHA-256.

    `data` is None where an earlier ingest packed them.
    """

    id: str
    n_bytes: int
    data: bytes | None
    item: Item
    probe: Probe


@contextmanager
def opened(max_pixels: int, max_bytes: int = bounded.MAX_FILE_BYTES) -> Iterator["Ledger"]:
    """The ledger of this project for these limits; a second process waits for the first."""
    folder = config.cache_folder() / "ingest"
    config.made(folder)
    with FileLock(folder / "lock"):
        database = _database(folder / "seen.sqlite", _rules(max_pixels, max_bytes))
        try:
            yield Ledger(folder, database)
        finally:
            database.close()


class Ledger:
    """The outcomes of earlier ingests, file by file; used by one thread."""

    def __init__(self, folder: Path, database: sqlite3.Connection) -> None:
        self._folder, self._database = folder, database
        self._sound = self._shards()
        self._packed = store.PackedImages(folder)
        self._run = 1 + (database.execute("SELECT max(run) FROM files").fetchone()[0] or 0)
        self._noted: list[tuple[object, ...]] = []

    def recall(self, item: Item) -> Verified | Skipped | None:
        """The file's outcome, if it has not changed since and its bytes are packed here."""
        row = (
            self._database.execute(
                "SELECT outcome FROM files WHERE stamp = ?", [item.stamp]
            ).fetchone()
            if item.stamp
            else None
        )
        if row is None:
            return None
        outcome = json.loads(row[0])
        if "reason" in outcome:
            return Skipped(item.name, outcome["reason"])
        if outcome["id"] not in self._packed:
            return None
        return Verified(outcome["id"], outcome["n_bytes"], None, item, Probe(**outcome["probe"]))

    def note(self, item: Item, outcome: Verified | Skipped) -> None:
        """Record an outcome when the next shard is written."""
        if not item.stamp or (
            isinstance(outcome, Skipped) and outcome.reason.startswith(UNREADABLE)
        ):
            return  # the disk may be well next time
        record = (
            {"reason": outcome.reason}
            if isinstance(outcome, Skipped)
            else {"id": outcome.id, "n_bytes": outcome.n_bytes, "probe": outcome.probe._asdict()}
        )
        self._noted.append((item.stamp, json.dumps(record), self._run))

    def pack(self, out: Path, entries: Iterable[Verified]) -> Iterator[Verified]:
        """Pack entries in the given order, and yield them as they are packed.

        Shards that exist already are only linked. A shard ends before it would exceed SHARD_BYTES
        or SHARD_IMAGES; a larger image has one to itself.
        """
        out.mkdir(parents=True, exist_ok=True)
        used = set[str]()
        for number, shard in enumerate(
            store.portions(
                entries, lambda entry: entry.n_bytes, store.SHARD_BYTES, store.SHARD_IMAGES
            )
        ):
            ids = "".join(entry.id for entry in shard).encode()
            name = f"images-{hashlib.sha256(ids).hexdigest()[:32]}.parquet"
            if name not in self._sound:
                self._write(name, shard)
            _link(self._folder / name, store.shard_path(out, number))
            used.add(name)
            self._commit()
            yield from shard
            shard.clear()  # else it would stay in memory beside the next one
        self._commit()
        self._forget(used)

    def _write(self, name: str, shard: list[Verified]) -> None:
        with store.whole(self._folder / name, self._folder / "shard.partial") as half:
            store.write_shard(
                half, ((e.id, self._packed[e.id] if e.data is None else e.data) for e in shard)
            )
        info = (self._folder / name).stat()
        self._database.execute(
            "INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", [name, info.st_size, info.st_mtime_ns]
        )
        self._sound.add(name)

    def _commit(self) -> None:
        self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", self._noted)
        self._database.commit()
        self._noted = []

    def _forget(self, used: set[str]) -> None:
        """Delete what the present images do not need; one generation stays."""
        with self._database:
            self._database.execute("DELETE FROM files WHERE run < ?", [self._run])
            self._database.executemany(
                "DELETE FROM shards WHERE name = ?", [[name] for name in self._sound - used]
            )
        for name in self._sound - used:
            (self._folder / name).unlink()

    def _shards(self) -> set[str]:
        """The shards that are as they were written; others are deleted."""
        noted = {
            name: (size, changed)
            for name, size, changed in self._database.execute("SELECT * FROM shards")
        }
        for path in self._folder.glob("images-*.parquet"):
            if noted.get(path.name) != (path.stat().st_size, path.stat().st_mtime_ns):
                path.unlink()
        return {name for name in noted if (self._folder / name).exists()}


def _database(path: Path, rules: str) -> sqlite3.Connection:
    """The database; created anew where the rules have changed, or where it is damaged."""
    database = sqlite3.connect(config.private(path))
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        stored = [row[0] for row in database.execute("SELECT rules FROM rules")]
        if not stored:
            with database:
                database.execute("INSERT INTO rules VALUES (?)", [rules])
        if stored in ([], [rules]):
            return database
    except sqlite3.DatabaseError:
        pass  # as if there were none
    database.close()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    return _database(path, rules)


def _rules(max_pixels: int, max_bytes: int) -> str:
    """What decides on a file beside its bytes, and how outcomes are stored here."""
    code = code_hash(signatures.__name__, __name__)
    return f"{max_pixels} {max_bytes} {images.rules()} {code}"


def _link(shard: Path, to: Path) -> None:
    try:
        os.link(shard, to)
    except OSError:  # another file system, or one without links
        shutil.copyfile(shard, to)
