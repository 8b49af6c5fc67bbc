"""The cells of every CSV file that is written here: no cell is a formula.

Text that a spreadsheet would run as a formula gets an apostrophe in front; reading here removes it.
Names of files and classes, metadata and messages are other people's text: `=cmd|...` in a cell runs
where the file is opened. Text that looks like a number stays: `-1.5` runs nothing, and may be a
class. https://owasp.org/www-community/attacks/CSV_Injection
"""

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Behind apostrophes, too: such a text gets one more, so that one can be removed.
FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def safe(value: Any) -> Any:
    """The value as it may stand in a cell; only text changes."""
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def original(text: str) -> str:
    """The text that `safe` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def row_writer(file: Any) -> Callable[[Iterable[Any]], object]:
    """A function that writes one row to anything with `write`."""
    bare = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write_row(row: Iterable[Any]) -> object:
        cells = [safe(cell) for cell in row]
        return (quoted if any(map(_breaks, cells)) else bare).writerow(cells)

    return write_row


def write(frame: "pd.DataFrame", file: Path) -> None:
    """A table with its header, without its index."""
    cells = frame.copy(deep=False)
    breaks = any(map(_breaks, frame.columns))
    for column in frame.columns:
        if frame[column].dtype.kind not in "biuf":
            cells[column] = frame[column].map(safe, na_action="ignore")
            breaks = breaks or any(map(_breaks, cells[column]))
    cells.rename(columns=safe).to_csv(
        file, index=False, quoting=csv.QUOTE_NONNUMERIC if breaks else csv.QUOTE_MINIMAL
    )


def read(file: Path | IO[str], **how: Any) -> "pd.DataFrame":
    """What `write` or `row_writer` wrote; `how` goes to pandas.read_csv.

    `how` names columns as they were before `safe`.
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
    """Whether a reader takes the cell for a line end, which Python writes without quotes."""
    return isinstance(cell, str) and "\r" in cell
