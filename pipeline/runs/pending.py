"""What a tracking server did not take, in order, until it takes it.

.fieldmark/pending/<time>-<process>/
   entries.jsonl  one JSON line per entry; the first one names the server
   files/         copies of the files that entries name
   done           how many entries were delivered
   lock           held by the process that writes or delivers
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline import config
from pipeline.storage import store

ENTRIES, FILES, DONE, LOCK = "entries.jsonl", "files", "done", "lock"
Entry = dict[str, Any]


def folder() -> Path:
    """The folder of all journals, in the project folder."""
    return config.home() / ".fieldmark" / "pending"


class Journal:
    """The entries of one process, from the first that the server did not take."""

    def __init__(self, place: str) -> None:
        self.folder = folder() / f"{time.time_ns()}-{os.getpid()}"
        config.made(self.folder / FILES)
        self._lock = FileLock(self.folder / LOCK)  # released whenever the process ends
        self._lock.acquire()
        self._n_files = 0
        self._append({"place": place})

    def add(self, entry: Entry) -> None:
        """Write an entry, with copies of the files `names` in `path` that it may name."""
        if "path" in entry:
            self._n_files += 1
            copy = self.folder / FILES / str(self._n_files)
            _copy(Path(entry["path"]), entry["names"], copy)
            entry = {**entry, "path": str(copy.relative_to(self.folder))}
        self._append(entry)

    def close(self) -> None:
        """Let another process deliver the entries."""
        self._lock.release()

    def _append(self, entry: Entry) -> None:
        with (self.folder / ENTRIES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())


def deliver(place: str, send: Callable[[Entry], object]) -> int:
    """Send the entries of ended processes for this place, oldest first; returns how many.

    Where `send` raises, that entry and all after it stay on disk, and the exception is raised. One
    entry may be sent twice, if this process is killed in between.
    """
    n = 0
    for journal in sorted(folder().glob(f"*/{ENTRIES}")):
        lock = FileLock(journal.parent / LOCK)
        with suppress(Timeout), lock.acquire(timeout=0):
            n += _deliver(journal, place, send)
    return n


def _deliver(journal: Path, place: str, send: Callable[[Entry], object]) -> int:
    if not journal.exists():  # another process has just delivered it
        return 0
    entries = _read(journal)
    if entries and entries[0]["place"] != place:
        return 0
    mark = journal.parent / DONE
    start = int(mark.read_text(encoding="utf-8")) if mark.exists() else 1
    for number, entry in enumerate(entries[start:], start + 1):
        path = {"path": str(journal.parent / entry["path"])} if "path" in entry else {}
        send({**entry, **path})
        with store.whole(mark) as half:
            half.write_text(str(number), encoding="utf-8")
    shutil.rmtree(journal.parent)
    return max(len(entries) - start, 0)


def _read(journal: Path) -> list[Entry]:
    """All entries, except one that a kill or a full disk cut off."""
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _copy(source: Path, names: list[str], target: Path) -> None:
    """Link the files where the disk can, which takes no space; else copy them."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            shutil.copyfile(source / name, target / name)
