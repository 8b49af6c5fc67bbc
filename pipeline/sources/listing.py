"""A listing of paths and labels: CSV, TSV, JSON Lines or Parquet, by the ending of its name.

A path is relative to the listing's folder, or absolute, or an address. Soft labels are one column
per class, for example p_cat and p_dog. All other columns are kept as metadata.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import FieldmarkError, redacted
from pipeline.sources import Item, Remark, Skipped, address, bounded, rows
from pipeline.sources.levels import SPLITS
from pipeline.sources.meanings import Meanings
from pipeline.sources.names import printable
from pipeline.sources.places import BadRow, Places


class Columns(NamedTuple):
    path: str
    label: str
    group: str
    split: str
    weight: str
    probability: str


def read(
    *,
    images: Path | str,
    file: str,
    path_column: str,
    label_column: str,
    group_column: str,
    split_column: str,
    weight_column: str,
    probability_prefix: str,
    path_prefix: str = "",
    path_suffix: str = "",
    private_addresses: bool = False,
    max_bytes: int = bounded.MAX_FILE_BYTES,
) -> Iterator[Item | Skipped | Remark]:
    """One item per row, in the listing's order; an empty label is none.

    At the end comes a remark on each column that is used for more than metadata. `images` is the
    listing, or the folder that holds it under the name `file`. Raises FieldmarkError where there is
    no listing, or one without a column of paths, or with neither labels nor probabilities.
    """
    columns = Columns(
        path_column, label_column, group_column, split_column, weight_column, probability_prefix
    )
    where, query = _listing(str(images), file)
    base = where.rpartition("/")[0] if "/" in where else "."
    places = Places(
        base, query, path_prefix, path_suffix, private=private_addresses, max_bytes=max_bytes
    )
    table, meanings = _Rows(columns, places), Meanings()
    size = max_bytes if address.is_remote(where) else None
    with address.opened(where + query, size, private=private_addresses) as stream:
        for line, row in _checked(rows.read(stream, where, columns.path), where, columns):
            entry = table.entry(line, row, redacted(where).rpartition("/")[2])
            if isinstance(entry, Item) and isinstance(row, dict):
                meanings.count(entry, _probability_columns(row, columns.probability))
            yield entry
    yield from meanings.remarks(columns.group, columns.split, columns.weight)


def _listing(images: str, file: str) -> tuple[str, str]:
    """The listing's path or address, and the query (?...) of an address."""
    where, mark, query = images.partition("?") if address.is_remote(images) else (images, "", "")
    if not where.casefold().endswith(rows.ENDINGS):
        where = f"{where.rstrip('/')}/{file}"
    return where, mark + query


def _checked(rows_read: Iterable[rows.Row], where: str, columns: Columns) -> Iterator[rows.Row]:
    """The rows; raises FieldmarkError where a column that is needed is missing."""
    names: set[str] = set()
    for line, row in rows_read:
        if isinstance(row, dict) and not row.keys() <= names:
            names |= row.keys()
            _check_columns(names, where, columns)
        yield line, row


class _Rows:
    """Turns rows into items; remembers the files that rows named, and the names of addresses."""

    def __init__(self, columns: Columns, places: Places) -> None:
        self._columns, self._places = columns, places
        self._lines: dict[str, tuple[int, str]] = {}  # by file
        self._called: dict[str, str] = {}
        self._n_called: dict[str, int] = {}

    def entry(self, line: int, row: dict[str, Any] | str, listing: str) -> Item | Skipped:
        """The item of a row, or why there is none."""
        if isinstance(row, str):
            return Skipped(f"{printable(listing)}:{line}", row)
        path = ""
        try:
            path = _cell(row, self._columns.path)
            return self._item(line, path, row)
        except BadRow as problem:
            name = printable(self._places.name(path)) if path else f"line {line}"
            return Skipped(name, f"line {line}, column {problem}")

    def _item(self, line: int, path: str, row: dict[str, Any]) -> Item:
        columns = self._columns
        if not path:
            raise BadRow(f"{columns.path}: empty")
        split = _cell(row, columns.split).casefold()
        if split and split not in SPLITS:
            raise BadRow(f"{columns.split}: {split!r} is unknown; use train, val or test")
        soft = _probabilities(row, columns.probability)
        label = self._apart(_cell(row, columns.label)) or (
            max(sorted(soft), key=soft.__getitem__) if soft else ""
        )
        weight = _weight(columns.weight, _cell(row, columns.weight))
        try:
            place = self._places.place(path)
        except BadRow as problem:
            raise BadRow(f"{columns.path}: {problem}") from problem
        self._check_new(place, line, label)
        used = {*columns, *_probability_columns(row, columns.probability)}
        return Item(
            self._apart(path, self._places.name(path)),
            self._places.loader(place),
            label,
            soft_label=soft or None,
            group=self._apart(_cell(row, columns.group)),
            given_split=SPLITS.get(split, ""),
            weight=weight,
            stamp="" if address.is_remote(place) else address.stamp(place),
            metadata={
                printable(name): _plain(value)
                for name, value in row.items()
                if name not in used and _text(value)
            },
        )

    def _check_new(self, place: str, line: int, label: str) -> None:
        key = place if address.is_remote(place) else os.path.normpath(place)
        first, before = self._lines.setdefault(key, (line, label))
        if first != line:
            other = f", labelled {before or 'nothing'} there and {label or 'nothing'} here"
            raise BadRow(
                f"{self._columns.path}: stands in line {first} already"
                f"{other if label != before else ''}"
            )

    def _apart(self, text: str, bare: str | None = None) -> str:
        """A text for records, without the secrets of addresses.

        Two texts that differ only in secrets get different names.
        """
        bare = printable(redacted(text) if bare is None else bare)
        if bare == printable(text) or not any(mark in text for mark in "?#@"):
            return bare
        if text not in self._called:
            n = self._n_called[bare] = self._n_called.get(bare, 0) + 1
            self._called[text] = bare if n == 1 else f"{bare} ({n})"
        return self._called[text]


def _check_columns(names: set[str], where: str, columns: Columns) -> None:
    has_labels = columns.label in names or any(_probability_columns(names, columns.probability))
    for name, there in ((columns.path, columns.path in names), (columns.label, has_labels)):
        if not there:
            present = ", ".join(sorted(names)) or "none"
            raise FieldmarkError(
                f"{where} has no column {name!r}; it has {present}: name it with "
                f"{'path' if name == columns.path else 'label'}"
                f"_column in ingest.source of params.yaml"
            )


def _probabilities(row: dict[str, Any], prefix: str) -> dict[str, float]:
    """By class; empty where no cell is filled."""
    cells = {name: _text(row[name]) for name in _probability_columns(row, prefix)}
    probabilities = {
        printable(name[len(prefix) :]): _probability(name, text)
        for name, text in cells.items()
        if text
    }
    if probabilities and not any(probabilities.values()):
        raise BadRow(f"{prefix}...: all probabilities are 0")
    return probabilities


def _probability_columns(names: Iterable[str], prefix: str) -> list[str]:
    """The columns of probabilities; none without a prefix."""
    return [name for name in names if prefix and name.startswith(prefix)]


def _probability(column: str, text: str) -> float:
    value = _number(column, text)
    if not 0 <= value <= 1:
        raise BadRow(f"{column}: {text} is no probability, which lies between 0 and 1")
    return value


def _weight(column: str, text: str) -> float:
    """1 where the cell is empty."""
    value = _number(column, text or "1")
    if not 0 <= value < math.inf:
        raise BadRow(f"{column}: {text} is no weight, which is finite and not negative")
    return value


def _number(column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRow(f"{column}: {text!r} is no number") from None


def _cell(row: dict[str, Any], column: str) -> str:
    """ "" where no column is named; raises BadRow for what is no text or number."""
    value = row.get(column) if column else None
    if isinstance(value, list | dict | bytes):
        raise BadRow(f"{column}: holds no text but {printable(str(value)[:40])}")
    return _text(value)


def _text(value: Any) -> str:
    """A cell as text; "" where it is empty, null or not a number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _plain(value: Any) -> Any:
    plain = isinstance(value, bool | int | float) and value not in (math.inf, -math.inf)
    return value if plain else printable(redacted(str(value)))
