"""The SQLite file of the inbox: its tables, and its limit on disk.

The limit covers the file with its free pages and the journal of a transaction. Therefore each
transaction deletes one image, until the next one fits. Processes may share the file.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

VERSION = 2  # of the tables, as PRAGMA user_version
TABLES = """CREATE TABLE IF NOT EXISTS images (
    upload TEXT PRIMARY KEY, id TEXT, at TEXT, model TEXT, predicted TEXT, confidence REAL,
    abstain INTEGER, label TEXT DEFAULT '', width INTEGER, height INTEGER, n_bytes INTEGER,
    png BLOB);
CREATE TABLE IF NOT EXISTS predictions (prediction TEXT PRIMARY KEY, upload TEXT);
CREATE INDEX IF NOT EXISTS dispensable ON images (label != '', abstain, at);
CREATE INDEX IF NOT EXISTS sizes ON images (n_bytes);
CREATE INDEX IF NOT EXISTS ids ON images (id);
CREATE INDEX IF NOT EXISTS uploads ON predictions (upload)"""
# Images with a label are kept longest, then those on which the model abstained; of each the newest.
# The order is that of the index, so that SQLite need not sort.
LEAST = "SELECT upload FROM images ORDER BY label != '', abstain, at LIMIT 1"
MAX_PREDICTIONS = 10_000  # one image may have many
PREDICTION_BYTES = 400  # per row, in the table and its two indexes
SHARE = 8  # predictions may take one part in so many
SPARE_PAGES = 16  # for inner pages that a transaction changes, and their journal
BUSY_S = 30.0
COLUMNS = ["id", "width", "height", "n_bytes", "png", "blurred"]
COLUMNS += ["at", "model", "predicted", "confidence", "abstain"]

Values = tuple[object, ...]


@contextmanager
def opened(file: Path, max_bytes: int | None = None) -> Iterator[sqlite3.Connection]:
    """A connection without a transaction; with `max_bytes` the file cannot grow beyond that."""
    with closing(sqlite3.connect(file, timeout=BUSY_S, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = ON")  # a deleted image leaves no pixels in the file
        if _value(db, "PRAGMA user_version") != VERSION:
            with writing(db):
                _make(db)
        if max_bytes is not None:
            most = max(1, max_bytes // _value(db, "PRAGMA page_size"))
            db.execute(f"PRAGMA max_page_count = {most}")
        yield db


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction, rolled back where it fails."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def fits(db: sqlite3.Connection, n_bytes: int, max_bytes: int) -> bool:
    """Whether an image of so many bytes fits beside the others.

    A label on the largest image rewrites its row, while the journal still holds the old one; so
    there must be room for both.
    """
    page = _value(db, "PRAGMA page_size")
    largest = max(n_bytes, _value(db, "SELECT COALESCE(MAX(n_bytes), 0) FROM images"))
    used = _value(db, "PRAGMA page_count") - _value(db, "PRAGMA freelist_count")
    needed = used + _pages(n_bytes, page) + 2 * _pages(largest, page) + SPARE_PAGES
    return needed <= max_bytes // page


def forget(db: sqlite3.Connection, upload: str | None = None) -> bool:
    """Delete an image and its predictions, by default the least useful; False where there is none."""
    row = db.execute(LEAST).fetchone() if upload is None else (upload,)
    if row:
        db.execute("DELETE FROM images WHERE upload = ?", row)
        db.execute("DELETE FROM predictions WHERE upload = ?", row)
    return row is not None


def max_predictions(max_bytes: int) -> int:
    """How many predictions the file may hold."""
    return min(MAX_PREDICTIONS, max_bytes // SHARE // PREDICTION_BYTES)


def shrink(file: Path, max_bytes: int) -> None:
    """Bring a file within its limit, which an older version or a higher limit may have exceeded."""
    if not file.exists() or file.stat().st_size <= max_bytes:
        return
    with opened(file) as db:
        fit = False
        while not fit:
            with writing(db):
                _forget_predictions(db, max_bytes)
                fit = fits(db, 0, max_bytes) or not forget(db)
        db.execute("VACUUM")


def has(db: sqlite3.Connection, upload: str, *, blurred: bool) -> bool:
    """Whether the image is in the file, with faces blurred or not."""
    query = "SELECT 1 FROM images WHERE upload = ? AND blurred = ?"
    return db.execute(query, (upload, blurred)).fetchone() is not None


def put(db: sqlite3.Connection, upload: str, about: Values, answer: Values) -> None:
    """Insert an image, or replace one that differs in `blurred`; its label stays.

    about: id, width, height, n_bytes, png, blurred; answer: at, model, predicted, confidence,
    abstain. One statement sets them all, since SQLite rewrites the whole row with its pixels.
    """
    new = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    db.execute(
        f"INSERT INTO images (upload, {', '.join(COLUMNS)}) "
        f"VALUES (?{', ?' * len(COLUMNS)}) ON CONFLICT (upload) DO UPDATE SET {new}",
        (upload, *about, *answer),
    )


def update_answer(db: sqlite3.Connection, upload: str, answer: Values) -> None:
    """Replace the model's answer to an image that is in the file."""
    db.execute(
        "UPDATE images SET at = ?, model = ?, predicted = ?, confidence = ?, abstain = ? "
        "WHERE upload = ?",
        (*answer, upload),
    )


def note(db: sqlite3.Connection, prediction: str, upload: str, max_bytes: int) -> None:
    """Record which image a prediction belongs to, and delete the oldest such records."""
    db.execute("INSERT OR REPLACE INTO predictions VALUES (?, ?)", (prediction, upload))
    _forget_predictions(db, max_bytes)


def _forget_predictions(db: sqlite3.Connection, max_bytes: int) -> None:
    db.execute(
        "DELETE FROM predictions WHERE rowid <= (SELECT MAX(rowid) FROM predictions) - ?",
        (max_predictions(max_bytes),),
    )


def _make(db: sqlite3.Connection) -> None:
    for statement in TABLES.split(";"):
        db.execute(statement)
    columns = {row[1] for row in db.execute("PRAGMA table_info(images)")}
    if "blurred" not in columns:  # whether faces were blurred; an older version did not record it
        db.execute("ALTER TABLE images ADD COLUMN blurred INTEGER DEFAULT 0")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _pages(n_bytes: int, page: int) -> int:
    return n_bytes // (page - 4) + 2


def _value(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])
