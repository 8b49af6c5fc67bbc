"""A listing of paths and labels: CSV, TSV, JSON Lines or Parquet, by the ending of its name.

A path is relative to the listing's folder, or absolute, or an address. Soft labels are one column a
class, for example p_cat and p_dog. Columns that nobody names are kept as metadata.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import FieldmarkError
from pipeline.sources import Item, Skipped, address
from pipeline.sources.levels import SPLITS
from pipeline.sources.names import printable

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
BATCH = 1024  # rows of a Parquet file in memory


class Columns(NamedTuple):
    path: str
    label: str
    group: str
    split: str
    weight: str
    probability: str


class BadRow(ValueError):
    """A row that is left out; the message names the column."""


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
) -> Iterator[Item | Skipped]:
    """A row an image, in the listing's order; an empty label is none.

    `images` is the listing, or the folder that holds it under the name `file`. Raises
    FieldmarkError where there is no listing, or one without a column of paths, or with neither
    labels nor probabilities.
    """
    columns = Columns(
        path_column, label_column, group_column, split_column, weight_column, probability_prefix
    )
    where = (
        str(images)
        if str(images).casefold().endswith(ENDINGS)
        else f"{str(images).rstrip('/')}/{file}"
    )
    base = where.rpartition("/")[0] if "/" in where else "."
    seen: dict[str, tuple[int, str]] = {}
    with address.opened(where) as stream:
        for line, row in _rows(stream, where, columns):
            if isinstance(row, str):
                yield Skipped(f"{printable(where.rpartition('/')[2])}:{line}", row)
                continue
            try:
                item = _item(row, columns, base)
                _check_new(item, line, row, columns, seen)
            except BadRow as problem:
                yield Skipped(
                    printable(_text(row.get(columns.path))) or f"line {line}",
                    f"line {line}, column {problem}",
                )
            else:
                yield item


def _rows(
    stream: IO[bytes], where: str, columns: Columns
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and row, or why there is none."""
    ending = Path(where).suffix.casefold()
    if ending not in ENDINGS:
        raise FieldmarkError(f"{where}: a listing ends in {', '.join(ENDINGS)}")
    try:
        rows = _parquet(stream) if ending == ".parquet" else _lines(stream, ending)
        names: set[str] = set()
        for line, row in rows:
            if isinstance(row, dict) and not row.keys() <= names:
                names |= row.keys()
                _check_columns(names, where, columns)
            yield line, row
    except (ValueError, csv.Error, pa.ArrowException, OSError) as problem:
        raise FieldmarkError(
            f"{where} cannot be read as {ending[1:].upper()} in UTF-8: {problem}"
        ) from problem


def _lines(stream: IO[bytes], ending: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        if ending in (".csv", ".tsv"):
            yield from _cells(text)
        else:
            yield from (
                (line, _json_row(content))
                for line, content in enumerate(text, 1)
                if content.strip()
            )


def _cells(text: TextIOWrapper) -> Iterator[tuple[int, dict[str, Any] | str]]:
    head = text.readline()
    mark = max(",;\t", key=head.count)  # spreadsheets of many countries write semicolons
    names = _distinct([name.strip() for name in next(csv.reader([head], delimiter=mark), [])])
    reader = csv.reader(text, delimiter=mark)
    for cells in reader:
        if not cells:
            continue
        whole = len(cells) == len(names)
        wrong = f"{len(cells)} cells, where the first line names {len(names)} columns"
        yield reader.line_num + 1, dict(zip(names, cells, strict=True)) if whole else wrong


def _distinct(names: list[str]) -> list[str]:
    """The names of columns; raises ValueError where two have the same, of which only one would be
    read.
    """
    for name in filter(None, names):
        if names.count(name) > 1:
            raise ValueError(f"there are two columns {name!r}")
    return names


def _json_row(content: str) -> dict[str, Any] | str:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as problem:
        return f"not JSON: {problem}"
    return row if isinstance(row, dict) else "not a JSON object"


def _parquet(stream: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    with pq.ParquetFile(stream) as table:
        line = 0
        _distinct(table.schema_arrow.names)
        for batch in table.iter_batches(BATCH):
            for row in batch.to_pylist():
                line += 1
                yield line, row


def _check_columns(names: set[str], where: str, columns: Columns) -> None:
    has_labels = columns.label in names or any(_graded(names, columns.probability))
    for name, there in ((columns.path, columns.path in names), (columns.label, has_labels)):
        if not there:
            found = ", ".join(sorted(names)) or "none"
            raise FieldmarkError(
                f"{where} has no column {name!r}; it has {found}: name it with "
                f"{'path' if name == columns.path else 'label'}"
                f"_column in ingest.source of params.yaml"
            )


def _item(row: dict[str, Any], columns: Columns, base: str) -> Item:
    path = _text(row.get(columns.path))
    if not path:
        raise BadRow(f"{columns.path}: empty")
    split = _text(row.get(columns.split)).casefold()
    if split and split not in SPLITS:
        raise BadRow(f"{columns.split}: {split!r} is unknown; use train, val or test")
    soft = _probabilities(row, columns.probability)
    label = printable(_text(row.get(columns.label))) or (
        max(sorted(soft), key=soft.__getitem__) if soft else ""
    )
    place = path if address.is_remote(path) or path.startswith("/") else f"{base}/{path}"
    used = {*columns, *_graded(row, columns.probability)}
    return Item(
        printable(path),
        address.loader(place),
        label,
        soft_label=soft or None,
        group=printable(_text(row.get(columns.group))),
        given_split=SPLITS.get(split, ""),
        weight=_weight(columns.weight, _text(row.get(columns.weight))),
        stamp="" if address.is_remote(place) else address.stamp(place),
        metadata={
            printable(name): _plain(value)
            for name, value in row.items()
            if name not in used and _text(value)
        },
    )


def _check_new(
    item: Item, line: int, row: dict[str, Any], columns: Columns, seen: dict[str, tuple[int, str]]
) -> None:
    path = _text(row[columns.path])
    first, label = seen.setdefault(path, (line, item.label))
    if first != line:
        contradiction = f", labelled {label or 'nothing'} there and {item.label or 'nothing'} here"
        raise BadRow(
            f"{columns.path}: stands in line {first} "
            f"already{contradiction if label != item.label else ''}"
        )


def _probabilities(row: dict[str, Any], prefix: str) -> dict[str, float]:
    """By class; empty where no cell is filled."""
    cells = {name: _text(row[name]) for name in _graded(row, prefix)}
    chances = {
        printable(name[len(prefix) :]): _probability(name, text)
        for name, text in cells.items()
        if text
    }
    if chances and not any(chances.values()):
        raise BadRow(f"{prefix}...: all probabilities are 0")
    return chances


def _graded(names: Iterable[str], prefix: str) -> list[str]:
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


def _text(value: Any) -> str:
    """A cell as text; "" where it is empty, null or not a number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _plain(value: Any) -> Any:
    plain = isinstance(value, bool | int | float) and value not in (math.inf, -math.inf)
    return value if plain else printable(str(value))
