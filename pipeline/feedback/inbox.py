"""Images on their way from the model in production back to its training: what people said of them,
and what the model doubted.

A server that stores (it does not unless told to) keeps the pixels of what it was shown, never the
file it got, in one bounded SQLite database below .fieldmark/feedback, which neither git nor DVC
looks at. The review page shows what waits there; what a person accepts goes to
data/feedback/<id>.png, and its label is a line of data/decisions like any other.
"""

import sqlite3
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipeline import config
from pipeline.sources.layout import printable
from pipeline.storage import store

FOLDER = Path(".fieldmark/feedback")
ACCEPTED = Path("data/feedback")
FILE = "inbox.db"
SIDE_PX = 1600  # of the longer side; bounds what one image costs to encode and to keep
TABLES = """CREATE TABLE IF NOT EXISTS images (
    upload TEXT PRIMARY KEY, id TEXT, at TEXT, model TEXT, predicted TEXT, confidence REAL, abstain INTEGER,
    label TEXT DEFAULT '', width INTEGER, height INTEGER, n_bytes INTEGER, png BLOB);
CREATE TABLE IF NOT EXISTS predictions (prediction TEXT PRIMARY KEY, upload TEXT)"""
REMEMBERED = 10_000  # predictions, which may be many of one image
# What a person said is kept longest, then what the model doubted; of each the newest.
DISPENSABLE = "ORDER BY label != '', abstain, at"


class Answer(NamedTuple):
    """What the model said: `model` as name/version, the likeliest class, its probability, whether
    it abstained.
    """

    model: str
    predicted: str
    confidence: float
    abstain: bool


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
        self._file = folder / FILE
        self._max_bytes = max_bytes

    def keep(
        self, upload: str, pixels: UInt8[np.ndarray, "h w 3"], answer: Answer, prediction: str = ""
    ) -> None:
        """Keep pixels and answer; `say` finds them by the prediction, or by the upload where that
        has no name.

        Images kept before are deleted where all together would have more than max_bytes.
        """
        png, width, height = _png(pixels)
        values = (upload, sha256(png).hexdigest(), _now(), *answer, width, height, len(png), png)
        config.private(self._file)
        with self._opened() as db:
            db.execute(
                "INSERT INTO images (upload, id, at, model, predicted, confidence, abstain, "
                "width, height, n_bytes, png) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (upload) DO UPDATE SET "
                "at = excluded.at, model = excluded.model, "
                "predicted = excluded.predicted, confidence = excluded.confidence, abstain = "
                "excluded.abstain",
                values,
            )
            db.execute(
                "INSERT OR REPLACE INTO predictions VALUES (?, ?)", (prediction or upload, upload)
            )
            self._make_room(db)

    def say(self, prediction: str, label: str) -> None:
        """Note what a person says the image is; raises KeyError for an image that is not kept (any
        more).
        """
        if not self._file.exists():
            raise KeyError(prediction)
        with self._opened() as db:
            named = (
                "UPDATE images SET label = ? WHERE upload = (SELECT upload FROM "
                "predictions WHERE prediction = ?)"
            )
            if not db.execute(named, (label, prediction)).rowcount:
                raise KeyError(prediction)

    def waiting(self) -> list[Waiting]:
        """What a person should look at, the newest first: what someone objected to, then what the
        model doubted.

        That someone agreed with the model is for the monitor; only where the model was not sure
        does it teach anything.
        """
        if not self._file.exists():
            return []
        with self._opened() as db:
            rows = db.execute(
                f"SELECT {', '.join(Waiting._fields)} FROM images WHERE label NOT IN ('', "
                f"predicted) OR abstain ORDER BY label = '', at DESC"
            ).fetchall()
        return [Waiting(*row) for row in rows]

    def png(self, id: str) -> bytes:
        """The kept file; KeyError for an id that is not there."""
        if self._file.exists():
            with self._opened() as db:
                row = db.execute("SELECT png FROM images WHERE id = ?", (id,)).fetchone()
            if row:
                return bytes(row[0])
        raise KeyError(id)

    def n_bytes(self) -> int:
        """Of the images that are kept."""
        if not self._file.exists():
            return 0
        with self._opened() as db:
            return int(db.execute("SELECT COALESCE(SUM(n_bytes), 0) FROM images").fetchone()[0])

    def _make_room(self, db: sqlite3.Connection) -> None:
        db.execute(
            "DELETE FROM predictions WHERE rowid <= (SELECT MAX(rowid) FROM predictions) - ?",
            (REMEMBERED,),
        )
        too_much = (
            db.execute("SELECT COALESCE(SUM(n_bytes), 0) FROM images").fetchone()[0]
            - self._max_bytes
        )
        for upload, n_bytes in db.execute(
            f"SELECT upload, n_bytes FROM images {DISPENSABLE}"
        ).fetchall():
            if too_much <= 0:
                return
            db.execute("DELETE FROM images WHERE upload = ?", (upload,))
            db.execute("DELETE FROM predictions WHERE upload = ?", (upload,))
            too_much -= n_bytes

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=30)) as db, db:
            db.execute(
                "PRAGMA secure_delete = ON"
            )  # what is forgotten leaves no pixels in the file
            db.executescript(TABLES)
            yield db


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
