"""Which files of a stage's output go along with its run in MLflow, and what stays at home."""

import base64
import re
from pathlib import Path

import mlflow

READABLE = ("*.png", "*.svg", "*.html", "*.csv", "*.json", "*.yaml", "*.md")
# A picture of the data in a page; charts are SVG.
PICTURE = re.compile(r"data:image/(?!svg\+xml)[\w.+-]+;base64,[A-Za-z0-9+/=]*")
KEPT_AT_HOME = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" width="96" height="96">'
        b'<rect width="96" height="96" fill="#9aa4b1"/></svg>'
    ).decode()
)


def log_files(folder: Path, *, share_pictures: bool) -> None:
    """The small readable files of a stage's output, as artifacts of its run. A server gets pictures
    of the data only where they may be shared; pages go there without them.
    """
    pictures = share_pictures or is_at_home()
    for pattern in READABLE:
        for file in sorted(folder.rglob(pattern)):
            name = file.relative_to(folder)
            if pictures or file.suffix not in (".png", ".html"):
                parent = name.parent.as_posix()
                mlflow.log_artifact(str(file), None if parent == "." else parent)
            elif file.suffix == ".html":
                page = PICTURE.sub(KEPT_AT_HOME, file.read_text(encoding="utf-8"))
                mlflow.log_text(page, name.as_posix())


def is_at_home() -> bool:
    """Whether the store is a file, and its artifacts lie in a folder."""
    return mlflow.get_tracking_uri().startswith(("sqlite:", "file:"))
