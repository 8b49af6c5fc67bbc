"""Images from production that people accepted: data/feedback/<id>.png.

The review page writes them. Their labels come from the decisions that accepted them; without its
decision an image has none.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.sources import Item, Skipped, bounded, walk
from pipeline.sources.names import printable
from pipeline.sources.walk import Kind

ORIGIN = {"origin": "feedback"}


def read(folder: Path, max_bytes: int = bounded.MAX_FILE_BYTES) -> Iterator[Item | Skipped]:
    """Every PNG in the folder, sorted by name; README.md and hidden files are ignored.

    Anything else is left out, with a reason.
    """
    for path, kind, hidden in walk.entries(folder) if folder.is_dir() else []:
        name = f"feedback/{printable(path.name)}"
        if kind is Kind.FILE and path.suffix == ".png" and not hidden:
            load = partial(bounded.read_file, path, max_bytes)
            yield Item(name, load, "", metadata={**ORIGIN})
        elif path.name != "README.md" and not hidden:
            no_file = kind.value if kind in (Kind.DEAD, Kind.ODD) else ""
            yield Skipped(name, no_file or "not a PNG; `fieldmark review` writes this folder")
