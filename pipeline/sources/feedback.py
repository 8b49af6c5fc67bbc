"""What people accepted of the images that the model in production was shown:
data/feedback/<id>.png, as the review page left them.

They have no label of their own; the decision that accepted them gives it, and one taken back leaves
them without.
"""

from collections.abc import Iterator
from pathlib import Path

from pipeline.sources import Item, Skipped

ORIGIN = {"origin": "feedback"}


def read(folder: Path) -> Iterator[Item | Skipped]:
    """Every PNG in the folder, sorted by name; anything else, but for README.md and hidden files,
    is left out.
    """
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        if path.suffix == ".png":
            yield Item(f"feedback/{path.name}", path.read_bytes, "", metadata={**ORIGIN})
        elif path.name != "README.md" and not path.name.startswith("."):
            yield Skipped(
                f"feedback/{path.name}", "not a PNG; `fieldmark review` writes this folder"
            )
