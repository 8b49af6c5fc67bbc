"""The rows of a table in a file: CSV, TSV, JSON Lines or Parquet, by the ending of its name.

What spreadsheets write is understood: a first line `sep=;`, empty lines, comments, UTF-16.
"""

import csv
import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import FieldmarkError

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
BATCH = 1024  # rows of a Parquet file in memory
MAX_LINE = 2**22  # characters: a file without line ends is no table
MARKS = {  # byte order marks, the longer ones first
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)

Row = tuple[int, dict[str, Any] | str]  # line number, and cells by column or why there are none


def read(stream: IO[bytes], where: str, path_column: str) -> Iterator[Row]:
    """Every row; the column of paths tells a head from a comment.

    Raises FieldmarkError where it is no such file.
    """
    ending = Path(where).suffix.casefold()
    if ending not in ENDINGS:
        raise FieldmarkError(f"{where}: a listing ends in {', '.join(ENDINGS)}")
    encoding = _encoding(stream)
    try:
        if ending == ".parquet":
            yield from _parquet(stream)
            return
        with TextIOWrapper(stream, encoding, newline="") as text:
            lines = _lines(text)
            yield from _json(lines) if ending in ENDINGS[2:] else _cells(lines, path_column)
    except (ValueError, csv.Error, pa.ArrowException, OSError) as problem:
        kind, name = ending[1:].upper(), encoding.removesuffix("-sig").upper()
        raise FieldmarkError(f"{where} cannot be read as {kind} in {name}: {problem}") from problem


def _encoding(stream: IO[bytes]) -> str:
    """By the mark at the beginning, or by the zeros of UTF-16 without one; else UTF-8."""
    head = stream.read(4)
    stream.seek(0)
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in head]
    if zeros == [False, True] * 2:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] * 2 else "utf-8-sig"


def _lines(text: TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and line[-1] not in "\r\n":
            raise ValueError(f"line {number} is longer than {MAX_LINE} characters")
        yield line


def _cells(lines: Iterator[str], path_column: str) -> Iterator[Row]:
    head, mark, n_before = _head(lines, path_column)
    mark = mark or max(",;\t|", key=head.count)  # spreadsheets of many countries write semicolons
    reader = csv.reader(chain([head] if head else [], lines), delimiter=mark)
    names = _distinct([name.strip() for name in next(reader, [])])
    for cells in reader:
        if not cells:
            continue
        whole = len(cells) == len(names)
        wrong = f"{len(cells)} cells, where the first line names {len(names)} columns"
        row = dict(zip(names, cells, strict=True)) if whole else wrong
        yield n_before + reader.line_num, row


def _head(lines: Iterator[str], path_column: str) -> tuple[str, str, int]:
    """The head, the separator that a line above it names, and how many lines stand above it."""
    mark = ""
    for n_before, line in enumerate(lines):
        if named := SEPARATOR.fullmatch(line.rstrip("\r\n")):
            mark = named[1]
            continue
        if not line.strip(',;|"\t\r\n '):
            continue
        if line.startswith("#"):
            names = [name.strip(' "') for name in re.split(r"[,;\t|]", line[1:].strip())]
            if path_column not in names:
                continue
            line = line[1:].lstrip(" ")
        return line, mark, n_before
    return "", mark, 0


def _json(lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _json_row(line)


def _json_row(content: str) -> dict[str, Any] | str:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as problem:
        return f"not JSON: {problem}"
    return row if isinstance(row, dict) else "not a JSON object"


def _parquet(stream: IO[bytes]) -> Iterator[Row]:
    with pq.ParquetFile(stream) as table:
        line = 0
        _distinct(table.schema_arrow.names)
        for batch in table.iter_batches(BATCH):
            for row in batch.to_pylist():
                line += 1
                yield line, row


def _distinct(names: list[str]) -> list[str]:
    """The names of columns; raises ValueError where two are the same.

    Only one of the two would be read.
    """
    for name in filter(None, names):
        if names.count(name) > 1:
            raise ValueError(f"there are two columns {name!r}")
    return names
