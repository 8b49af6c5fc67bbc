"""Images on their way from production back to training, with labels from people.

A server with `feedback.keep` stores the pixels of an image, never the uploaded file. It stores them
in one SQLite database of limited size below .fieldmark/feedback, which git and DVC ignore. The
review page shows these images. An accepted image goes to data/feedback/<id>.png, and its label
becomes a row of data/decisions.
"""

import unicodedata
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipeline import config
from pipeline.feedback import database
from pipeline.sources.layout import printable
from pipeline.storage import store

FOLDER = Path(".fieldmark/feedback")
ACCEPTED = Path("data/feedback")
FILE = "inbox.db"
SIDE_PX = 1600  # of the longer side; bounds what one image costs to encode and to keep


class Answer(NamedTuple):
    """The model's answer to an image; `model` is name/version, `predicted` the likeliest class."""

    model: str
    predicted: str
    confidence: float
    abstain: bool


class TooLarge(ValueError):
    """An image that does not fit even into an empty inbox."""


class Waiting(NamedTuple):
    """An image to review.

    `upload` is the SHA-256 of the uploaded file, `id` that of the stored PNG. `label` comes from a
    person; it is "" where nobody gave one and the model abstained.
    """

    upload: str
    id: str
    model: str
    predicted: str
    confidence: float
    label: str
    width: int
    height: int
    n_bytes: int


class Inbox:
    """The database in a folder, which the first image creates; processes may share it."""

    def __init__(self, folder: Path, max_bytes: int = 0) -> None:
        """`max_bytes`: what the files in the folder may take on disk; needed to keep images."""
        self._file = folder / FILE
        self._max_bytes = max_bytes
        if max_bytes:
            database.shrink(self._file, max_bytes)

    def keep(
        self,
        upload: str,
        pixels: UInt8[np.ndarray, "h w 3"],
        answer: Answer,
        prediction: str = "",
        *,
        blurred: bool = False,
    ) -> None:
        """Keep pixels and answer; `say` finds them by the prediction, or else by the upload.

        `blurred`: faces in these pixels are blurred. Older images are deleted until the new one
        fits into max_bytes. Raises TooLarge where it does not fit into an empty inbox.
        """
        png, width, height = _png(pixels)
        about = (sha256(png).hexdigest(), width, height, len(png), png, blurred)
        config.private(self._file)
        with database.opened(self._file, self._max_bytes) as db:
            stored = False
            while not stored:
                with database.writing(db):
                    stored = True
                    if database.has(db, upload, blurred=blurred):
                        database.update_answer(db, upload, (_now(), *answer))
                    elif database.fits(db, len(png), self._max_bytes):
                        database.put(db, upload, about, (_now(), *answer))
                    elif database.forget(db):
                        stored = False
                    else:
                        raise TooLarge(f"{len(png)} bytes do not fit into {self._max_bytes}")
                    if stored:
                        database.note(db, prediction or upload, upload, self._max_bytes)

    def say(self, prediction: str, label: str) -> None:
        """Store a person's label of an image; raises KeyError for an image that is not kept."""
        if not self._file.exists():
            raise KeyError(prediction)
        with database.opened(self._file) as db, database.writing(db):
            update = (
                "UPDATE images SET label = ? WHERE upload = (SELECT upload FROM "
                "predictions WHERE prediction = ?)"
            )
            if not db.execute(update, (label, prediction)).rowcount:
                raise KeyError(prediction)

    def waiting(self, *, only_blurred: bool = False) -> list[Waiting]:
        """The images to review: those with another label, then those on which the model abstained.

        The newest come first. `only_blurred` leaves out images whose faces are not blurred. An image
        whose label is the model's class is left out, unless the model abstained: the monitor counts
        it, but it teaches the model nothing.
        """
        if not self._file.exists():
            return []
        with database.opened(self._file) as db:
            rows = db.execute(
                f"SELECT {', '.join(Waiting._fields)} FROM images WHERE (label NOT IN ('', "
                f"predicted) OR abstain) AND blurred >= ? ORDER BY label = '', at DESC",
                (only_blurred,),
            ).fetchall()
        return [Waiting(*row) for row in rows]

    def n_unblurred(self) -> int:
        """The number of images whose faces are not blurred, as far as is recorded."""
        if not self._file.exists():
            return 0
        with database.opened(self._file) as db:
            query = "SELECT COUNT(*) FROM images WHERE NOT blurred"
            return int(db.execute(query).fetchone()[0])

    def blur(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Apply `change` to the pixels of the images not yet blurred; each gets a new id.

        An image that cannot be read is deleted.
        """
        while True:
            with database.opened(self._file) as db:
                row = db.execute("SELECT upload, png FROM images WHERE NOT blurred").fetchone()
            if row is None:
                return
            upload, png = row
            try:
                pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
            except (OSError, ValueError):  # damaged
                pixels = None
            changed, width, height = (b"", 0, 0) if pixels is None else _png(change(pixels))
            about = (sha256(changed).hexdigest(), width, height, len(changed), changed, True)
            with database.opened(self._file) as db, database.writing(db):
                if not changed:
                    database.forget(db, upload)
                else:
                    db.execute(
                        "UPDATE images SET id = ?, width = ?, height = ?, n_bytes = ?, png = ?, "
                        "blurred = ? WHERE upload = ? AND NOT blurred",  # if it is still there
                        (*about, upload),
                    )

    def png(self, id: str) -> bytes:
        """The stored PNG; KeyError for an unknown id."""
        if self._file.exists():
            with database.opened(self._file) as db:
                row = db.execute("SELECT png FROM images WHERE id = ?", (id,)).fetchone()
            if row:
                return bytes(row[0])
        raise KeyError(id)

    def n_bytes(self) -> int:
        """The size of the stored PNGs, without the overhead of the database."""
        if not self._file.exists():
            return 0
        with database.opened(self._file) as db:
            return int(db.execute("SELECT COALESCE(SUM(n_bytes), 0) FROM images").fetchone()[0])


def class_name(text: str, known: Collection[str]) -> str:
    """The class name that someone typed, trimmed and in NFC.

    "" where it is a new name that is empty or not printable.
    """
    name = unicodedata.normalize("NFC", text.strip())
    visible = printable(name) == name and any(letter.isprintable() for letter in name)
    return name if visible or name in known else ""


def accept(inbox: Inbox, id: str, folder: Path) -> None:
    """Write the image where the next `dvc repro` finds it; KeyError for one that is not kept."""
    with store.whole(folder / f"{id}.png") as half:
        half.write_bytes(inbox.png(id))


def take_back(id: str, folder: Path) -> None:
    """Undo `accept`."""
    (folder / f"{id}.png").unlink(missing_ok=True)


def _png(pixels: np.ndarray) -> tuple[bytes, int, int]:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    target = BytesIO()
    picture.save(target, "PNG", compress_level=1)
    return target.getvalue(), picture.width, picture.height


def _now() -> str:
    return datetime.now(UTC).isoformat()
