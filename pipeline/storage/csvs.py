"""Cells of every CSV file that is written: text that a spreadsheet would run as a formula gets an
apostrophe in front, and whoever reads the file here gets the text back as it was.

Names of files and classes, metadata and messages are other people's text: `=cmd|...` in a cell runs
where the file is opened. What is text here and looks like a number stays: there is nothing to run
in `-1.5`, and it may be a class. https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Behind apostrophes, too: what has some already gets one more, so that one can be taken away.
FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def safe(value: Any) -> Any:
    """The value as it may stand in a cell; only text is changed."""
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def original(text: str) -> str:
    """What `safe` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def row_writer(file: Any) -> Callable[[Iterable[Any]], object]:
    """Writes one row to anything with `write`."""
    bare = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write_row(row: Iterable[Any]) -> object:
        cells = [safe(cell) for cell in row]
        return (quoted if any(map(_breaks, cells)) else bare).writerow(cells)

    return write_row


def write(frame: "pd.DataFrame", file: Path) -> None:
    """A table with its header, without its index."""
    made = frame.copy(deep=False)
    breaks = any(map(_breaks, frame.columns))
    for column in frame.columns:
        if frame[column].dtype.kind not in "biuf":
            made[column] = frame[column].map(safe, na_action="ignore")
            breaks = breaks or any(map(_breaks, made[column]))
    made.rename(columns=safe).to_csv(
        file, index=False, quoting=csv.QUOTE_NONNUMERIC if breaks else csv.QUOTE_MINIMAL
    )


def read(file: Path | IO[str], **how: Any) -> "pd.DataFrame":
    """What `write` or `row_writer` wrote; `how` as pandas.read_csv takes it, in the names of the
    header as it was.
    """
    import pandas as pd  # takes a while, and not all who write need it

    if isinstance(how.get("dtype"), dict):
        how["dtype"] = {safe(column): kind for column, kind in how["dtype"].items()}
    frame: pd.DataFrame = pd.read_csv(file, **how).rename(columns=original)
    for column in frame.columns:
        if frame[column].dtype.kind not in "biuf":
            frame[column] = frame[column].map(
                lambda cell: original(cell) if isinstance(cell, str) else cell
            )
    return frame


def _breaks(cell: Any) -> bool:
    """Whether a reader takes a cell for the end of a line that Python writes without quotes."""
    return isinstance(cell, str) and "\r" in cell
