"""People's decisions on labels: labels.csv, one line a decision, in git; lines are only ever added.

id        of the image
decision  keep (the label is right), relabel (label says to what), drop (use for nothing), unsure;
          withdraw takes back what the same person said last about the image, so that what they said
          before holds again
label     the right class; read for relabel only
by, when  who decided, and the ISO 8601 time; a time without zone counts as UTC

Nothing is deleted, so the file tells who changed their mind and when, and git can merge what two
people added.
"""

import csv
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TextIO

import pandas as pd
from filelock import FileLock

from pipeline import FieldmarkError, config
from pipeline.storage import csvs, store

FILE = "labels.csv"
COLUMNS = ["id", "decision", "label", "by", "when"]
WITHDRAW = "withdraw"
VALID = ["keep", "relabel", "drop", "unsure", WITHDRAW]
CONFLICT = "conflict"

Stamp = tuple[int, int, int] | None


class Line(NamedTuple):
    """A line of the file; label is empty unless it relabels."""

    id: str
    decision: str
    label: str
    by: str
    when: str
    instant: datetime


Spoken = dict[
    str, dict[str, list[Line]]
]  # image -> person -> what they said and did not take back, by time


def read(folder: Path) -> pd.DataFrame:
    """All decisions as text, in the order of the file; no rows where the file is missing or only a
    header.

    Raises FieldmarkError for a malformed file, naming file, line and what is valid.
    """
    path = folder / FILE
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(path, file)
    except UnicodeDecodeError as error:
        raise FieldmarkError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise FieldmarkError(
            f"{path} is not readable as CSV ({error}); mend it or restore it from git."
        ) from error
    return pd.DataFrame(lines, columns=COLUMNS, dtype=str)


def apply(rows: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """Rows with a column decision ("" for none) and the labels that people gave; the argument is
    left as it is.

    The last decision of one person counts, by time; on the same time the later line. People who
    differ make a "conflict", which changes nothing. A new label is certain, so it empties
    soft_label where rows have it.
    """
    settled = _settled(decisions)
    decision = (
        rows["id"].map(settled["decision"].reindex(rows["id"].unique(), fill_value="")).astype(str)
    )
    relabelled = decision == "relabel"
    changed = rows.assign(decision=decision)
    changed.loc[relabelled, "label"] = rows.loc[relabelled, "id"].map(settled["label"])
    changed.loc[relabelled, changed.columns.intersection(["soft_label"])] = ""
    return changed


def standing(decisions: pd.DataFrame) -> pd.DataFrame:
    """The lines that hold, at most one for each person and image, by time; label is empty unless
    they relabel.
    """
    spoken: Spoken = {}
    for one in by_time(decisions):
        hear(spoken, one)
    holding = [lines[-1] for of_image in spoken.values() for lines in of_image.values() if lines]
    return pd.DataFrame(
        [one[:-1] for one in sorted(holding, key=lambda one: one.instant)],
        columns=COLUMNS,
        dtype=str,
    )


def by_time(decisions: pd.DataFrame) -> list[Line]:
    """The lines, on the same time in the order of the file."""
    lines = map(line, *(decisions[column].tolist() for column in COLUMNS))
    return sorted(lines, key=lambda one: one.instant)


def line(id: str, decision: str, label: str, by: str, when: str) -> Line:
    """The line with its time parsed, and without a label unless it relabels."""
    return Line(id, decision, label if decision == "relabel" else "", by, when, _instant(when))


def hear(spoken: Spoken, line: Line) -> None:
    """Add a line to what was said and not taken back; lines come by time."""
    lines = spoken.setdefault(line.id, {}).setdefault(line.by, [])
    if line.decision != WITHDRAW:
        lines.append(line)
    elif lines:
        lines.pop()


def append(folder: Path, lines: Sequence[Sequence[str]], lock: Path) -> tuple[Stamp, Stamp]:
    """Add lines of COLUMNS to the file, all or none of them; processes that name the same lock wait
    for each other.

    The file is written anew beside the lock (git and DVC look at the folder) and renamed, so that
    whatever happens it is whole; the bytes that were there stay as they were. Returns the stamps of
    the file before and after. Raises FieldmarkError for a line that `read` would refuse.
    """
    for fields in lines:
        if problem := _problem(list(fields)):
            raise FieldmarkError(f"not written to {folder / FILE}: {problem}.")
    added = io.StringIO()
    for fields in lines:
        csvs.row_writer(added)(fields)
    config.made(lock.parent)
    path = folder / FILE
    with FileLock(lock):
        before_write = stamp(path)
        before = path.read_bytes() if path.exists() else b""
        before = before or f"{','.join(COLUMNS)}\n".encode()
        with store.whole(path, lock.with_suffix(".partial")) as half, half.open("wb") as file:
            file.write(
                before + (b"" if before.endswith(b"\n") else b"\n") + added.getvalue().encode()
            )
            file.flush()
            os.fsync(file.fileno())
        return before_write, stamp(path)


def stamp(path: Path) -> Stamp:
    """A value that changes whenever the file does; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def unmatched(rows: pd.DataFrame, decisions: pd.DataFrame) -> int:
    """How many decided images are not in the data; their decisions stay in the file for when they
    return.
    """
    return len(set(decisions["id"]) - set(rows["id"]))


def _lines(path: Path, file: TextIO) -> list[list[str]]:
    reader = csv.reader(file, strict=True)
    header = next(reader, COLUMNS)
    if header != COLUMNS:
        raise FieldmarkError(
            f"{path}, line 1: the columns must be {','.join(COLUMNS)}, not {','.join(header)}."
        )
    lines = []
    for fields in ([csvs.original(cell) for cell in line] for line in reader):
        if (
            not fields or [fields[0].removeprefix("\ufeff"), *fields[1:]] == COLUMNS
        ):  # a merge may keep both first lines
            continue
        if problem := _problem(fields):
            raise FieldmarkError(f"{path}, line {reader.line_num}: {problem}.")
        lines.append(fields)
    return lines


def _problem(fields: list[str]) -> str:
    """What is wrong with one line, and what is valid; "" for nothing."""
    if len(fields) != len(COLUMNS):
        return f"{len(fields)} fields, but there must be {len(COLUMNS)}: {','.join(COLUMNS)}"
    image, decision, label, _, when = fields
    if not image:
        return "the id is empty; it must be that of an image"
    if decision not in VALID:
        return f"the decision {decision!r} is unknown; valid are {', '.join(VALID)}"
    if decision == "relabel" and not label:
        return "relabel without a label; write the name of the right class"
    try:
        datetime.fromisoformat(when)
    except ValueError:
        return f"the time {when!r} is not ISO 8601; valid is for example 2026-01-31T18:30:00+00:00"
    return ""


def _settled(decisions: pd.DataFrame) -> pd.DataFrame:
    """What holds for each decided image: columns decision and label, by id."""
    answers = standing(decisions).drop_duplicates(["id", "decision", "label"])
    settled = answers.drop_duplicates("id").set_index("id")[["decision", "label"]]
    split = answers.loc[answers["id"].duplicated(), "id"]
    settled.loc[settled.index.isin(split), ["decision", "label"]] = [CONFLICT, ""]
    return settled


def _instant(when: str) -> datetime:
    instant = datetime.fromisoformat(when)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
