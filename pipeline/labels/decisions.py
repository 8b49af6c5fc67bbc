"""People's decisions on labels: labels.csv, one line a decision, in git and never rewritten by the pipeline.

id        of the image
decision  keep (the label is right), relabel (label says to what), drop (use for nothing), unsure
label     the right class; read for relabel only
by, when  who decided, and the ISO 8601 time; a time without zone counts as UTC
"""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import pandas as pd

from pipeline.errors import FieldmarkError

FILE = "labels.csv"
COLUMNS = ["id", "decision", "label", "by", "when"]
VALID = ["keep", "relabel", "drop", "unsure"]
CONFLICT = "conflict"


def read(folder: Path) -> pd.DataFrame:
    """All decisions as text, in the order of the file; no rows where the file is missing or only a header.

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
    """Rows with a column decision ("" for none) and the labels that people gave; the argument is left as it is.

    The last decision of one person counts, by time; on the same time the later line. People who differ make a
    "conflict", which changes nothing. A new label is certain, so it empties soft_label where rows have it.
    """
    settled = _settled(decisions)
    decision = rows["id"].map(settled["decision"].reindex(rows["id"].unique(), fill_value="")).astype(str)
    relabelled = decision == "relabel"
    changed = rows.assign(decision=decision)
    changed.loc[relabelled, "label"] = rows.loc[relabelled, "id"].map(settled["label"])
    changed.loc[relabelled, changed.columns.intersection(["soft_label"])] = ""
    return changed


def unmatched(rows: pd.DataFrame, decisions: pd.DataFrame) -> int:
    """How many decided images are not in the data; their decisions stay in the file for when they return."""
    return len(set(decisions["id"]) - set(rows["id"]))


def _lines(path: Path, file: TextIO) -> list[list[str]]:
    reader = csv.reader(file, strict=True)
    header = next(reader, COLUMNS)
    if header != COLUMNS:
        raise FieldmarkError(
            f"{path}, line 1: the columns must be {','.join(COLUMNS)}, not {','.join(header)}."
        )
    lines = []
    for fields in reader:
        if not fields:
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
    dated = decisions.assign(
        label=decisions["label"].where(decisions["decision"] == "relabel", ""),
        when=pd.Series([_instant(when) for when in decisions["when"]], index=decisions.index, dtype=object),
    )
    last = dated.sort_values("when", kind="stable").drop_duplicates(["id", "by"], keep="last")
    answers = last.drop_duplicates(["id", "decision", "label"])
    settled = answers.drop_duplicates("id").set_index("id")[["decision", "label"]]
    split = answers.loc[answers["id"].duplicated(), "id"]
    settled.loc[settled.index.isin(split), ["decision", "label"]] = [CONFLICT, ""]
    return settled


def _instant(when: str) -> datetime:
    instant = datetime.fromisoformat(when)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
