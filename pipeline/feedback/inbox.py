"""Images on their way from the model in production back to its training: what people said of them,
and what the model doubted.

A server that stores (it does not unless told to) keeps the pixels of what it was shown, never the
file it got, in one bounded SQLite database below .fieldmark/feedback, which neither git nor DVC
looks at. The review page shows what waits there; what a person accepts goes to
data/feedback/<id>.png, and its label is a line of data/decisions like any other.
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
    """What the model said: `model` as name/version, the likeliest class, its probability, whether
    it abstained.
    """

    model: str
    predicted: str
    confidence: float
    abstain: bool


class TooLarge(ValueError):
    """An image for which there is no room, also where nothing else is kept."""


class Waiting(NamedTuple):
    """An image to review. `upload` is the SHA-256 of the file that was sent, `id` that of the PNG
    that is kept.

    `label` is what someone said it is, "" where nobody did and the model abstained.
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
    """The database of a folder; processes may share it. Nothing is made before the first image is
    kept.
    """

    def __init__(self, folder: Path, max_bytes: int = 0) -> None:
        """`max_bytes`: what the files in the folder may take on disk, for who keeps images."""
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
        """Keep pixels and answer; `say` finds them by the prediction, or by the upload where that
        has no name. `blurred`: faces were, in these pixels.

        Images kept before are deleted until it fits into max_bytes. Raises TooLarge where it would
        not fit by itself.
        """
        png, width, height = _png(pixels)
        about = (sha256(png).hexdigest(), width, height, len(png), png, blurred)
        config.private(self._file)
        with database.opened(self._file, self._max_bytes) as db:
            kept = False
            while not kept:
                with database.writing(db):
                    kept = True
                    if database.has(db, upload, blurred=blurred):
                        database.answered(db, upload, (_now(), *answer))
                    elif database.fits(db, len(png), self._max_bytes):
                        database.put(db, upload, about, (_now(), *answer))
                    elif database.forget(db):
                        kept = False
                    else:
                        raise TooLarge(f"{len(png)} bytes do not fit into {self._max_bytes}")
                    if kept:
                        database.note(db, prediction or upload, upload, self._max_bytes)

    def say(self, prediction: str, label: str) -> None:
        """Note what a person says the image is; raises KeyError for an image that is not kept (any
        more).
        """
        if not self._file.exists():
            raise KeyError(prediction)
        with database.opened(self._file) as db, database.writing(db):
            named = (
                "UPDATE images SET label = ? WHERE upload = (SELECT upload FROM "
                "predictions WHERE prediction = ?)"
            )
            if not db.execute(named, (label, prediction)).rowcount:
                raise KeyError(prediction)

    def waiting(self, *, only_blurred: bool = False) -> list[Waiting]:
        """What a person should look at, the newest first: what someone objected to, then what the
        model doubted; `only_blurred`: of those in which faces were.

        That someone agreed with the model is for the monitor; only where the model was not sure
        does it teach anything.
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
        """Images in which faces were not blurred, or of which nobody knows it."""
        if not self._file.exists():
            return 0
        with database.opened(self._file) as db:
            query = "SELECT COUNT(*) FROM images WHERE NOT blurred"
            return int(db.execute(query).fetchone()[0])

    def blur(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replace the pixels of images kept without it by what `change` makes of them; each gets
        another id. What cannot be read is forgotten.
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
        """The kept file; KeyError for an id that is not there."""
        if self._file.exists():
            with database.opened(self._file) as db:
                row = db.execute("SELECT png FROM images WHERE id = ?", (id,)).fetchone()
            if row:
                return bytes(row[0])
        raise KeyError(id)

    def n_bytes(self) -> int:
        """Of the images that are kept, without what the database takes around them."""
        if not self._file.exists():
            return 0
        with database.opened(self._file) as db:
            return int(db.execute("SELECT COALESCE(SUM(n_bytes), 0) FROM images").fetchone()[0])


def class_name(text: str, known: Collection[str]) -> str:
    """The name of a class as someone typed it, trimmed and in NFC; "" where it is a new one that is
    empty or cannot be shown.
    """
    name = unicodedata.normalize("NFC", text.strip())
    shown = printable(name) == name and any(letter.isprintable() for letter in name)
    return name if shown or name in known else ""


def accept(inbox: Inbox, id: str, folder: Path) -> None:
    """Write the image where the next `dvc repro` finds it; KeyError for one that is not kept (any
    more).
    """
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
