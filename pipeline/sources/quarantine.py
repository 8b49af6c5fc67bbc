"""quarantine.csv: name and reason of whatever was left out, in the order met.

Rows go to disk at once, so that no number of them fills the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.sources import Item, Skipped
from pipeline.storage import csvs

DUPLICATE = "exact duplicate of "
EXAMPLES = 5


class Quarantine:
    """How many entries were left out, how many of them as exact duplicates, and the first few."""

    def __init__(self, file: TextIO) -> None:
        self._write = csvs.row_writer(file)
        self._write(["name", "reason"])
        self.n, self.n_duplicates = 0, 0
        self.first: list[Skipped] = []

    def add(self, entry: Skipped) -> None:
        self._write([entry.name, entry.reason])
        self.n += 1
        self.n_duplicates += entry.reason.startswith(DUPLICATE)
        self.first = [*self.first, entry][:EXAMPLES]


@contextmanager
def opened(path: Path) -> Iterator[Quarantine]:
    """A new file, for as long as entries are added."""
    with path.open("w", encoding="utf-8", newline="") as file:
        yield Quarantine(file)


def duplicate(item: Item, name: str, label: str) -> Skipped:
    """An image whose bytes equal those of the image of this name and label."""
    reason = f"{DUPLICATE}{name}"
    if item.label != label:
        reason += f", which is labelled {label or 'nothing'}; here {item.label or 'nothing'}"
    return Skipped(item.name, reason)
