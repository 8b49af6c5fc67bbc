"""Which files of a stage's output go to its run in MLflow, and which stay on this machine."""

import base64
import re
from pathlib import Path

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


def names(folder: Path, *, pictures: bool) -> list[str]:
    """The small readable files of a stage's output, relative to it.

    Without `pictures`, the pictures of the data are left out.
    """
    files = [file for pattern in READABLE for file in sorted(folder.rglob(pattern))]
    return [
        file.relative_to(folder).as_posix() for file in files if pictures or file.suffix != ".png"
    ]


def without_pictures(page: str) -> str:
    """The page with a grey square in place of each picture of the data; charts stay."""
    return PICTURE.sub(KEPT_AT_HOME, page)
