"""The tables of the monitor store, in SQLite or, by URL, PostgreSQL.

predictions   one row per image: the prediction, its latency and figures of the image; no pixels
refusals      how many requests got no prediction: one row per minute, version and status, so that a
              flood of them displaces no records
labels        people's labels, by the id of the prediction; a label may come before its prediction,
              or stay after that was deleted
sources       the rows of reference.parquet of each model version that predicted
checks        one row per finished window: the adjusted p-value of each test (see windows.py)
losses        how many records could not be written, and when
"""

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

from pipeline import FieldmarkError, config

VARIABLE = "FIELDMARK_MONITOR_URL"
DEFAULT_URL = "sqlite:///.fieldmark/monitor.db"
FEATURES = ("confidence", "ood", "brightness", "sharpness")
BUSY_S = 5.0  # how long a writer waits for another one's transaction

metadata = sa.MetaData()
# SQLite increments a key only where its type is INTEGER
_key = sa.BigInteger().with_variant(sa.Integer, "sqlite")

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("seq", _key, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("time", sa.Double, nullable=False, index=True),  # seconds since 1970
    sa.Column("version", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),  # of HTTP
    sa.Column("latency_ms", sa.Double),
    sa.Column("class", sa.String, key="class_"),
    *(sa.Column(name, sa.Double) for name in FEATURES),
    sa.Column("sketch", sa.LargeBinary),  # float32, little-endian
    sa.Index("predictions_version_seq", "version", "seq"),
)
refusals = sa.Table(
    "refusals",
    metadata,
    # the start of the minute, in seconds since 1970
    sa.Column("time", sa.Double, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("status", sa.Integer, primary_key=True, autoincrement=False),  # of HTTP
    sa.Column("n", sa.Integer, nullable=False),
)
labels = sa.Table(
    "labels",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
)
sources = sa.Table(
    "sources",
    metadata,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("class", sa.String, key="class_", nullable=False),
    *(sa.Column(name, sa.Double, nullable=False) for name in FEATURES),
    sa.Column("sketch", sa.LargeBinary, nullable=False),
)
checks = sa.Table(
    "checks",
    metadata,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("size", sa.Integer, primary_key=True),
    sa.Column("last_seq", _key, primary_key=True, autoincrement=False),
    sa.Column("start", sa.Double, nullable=False),
    sa.Column("end", sa.Double, nullable=False, index=True),
    sa.Column("level", sa.Double, nullable=False),
    sa.Column("p", sa.JSON, nullable=False),  # {test: adjusted p-value}
)
losses = sa.Table(
    "losses",
    metadata,
    sa.Column("seq", _key, primary_key=True, autoincrement=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
)


def url() -> str:
    """Where the store is: FIELDMARK_MONITOR_URL, or a SQLite file in the project folder."""
    return os.environ.get(VARIABLE) or DEFAULT_URL


def connect(address: str) -> sa.Engine:
    """An engine, which opens nothing yet; raises FieldmarkError for an invalid address.

    It opens a SQLite file again for each transaction, so that it notices when the file was deleted
    or replaced.
    """
    try:
        target = make_url(address)
        if target.get_backend_name() == "sqlite":
            engine = sa.create_engine(
                target, poolclass=sa.NullPool, connect_args={"timeout": BUSY_S}
            )
            sa.event.listen(engine, "connect", _tune)
        else:
            if target.drivername == "postgresql":
                target = target.set(drivername="postgresql+psycopg")
            engine = sa.create_engine(
                target, pool_pre_ping=True, connect_args={"connect_timeout": int(BUSY_S)}
            )
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError) as error:
        raise FieldmarkError(
            f"{VARIABLE}: {error}; write sqlite:///FILE or postgresql://HOST/NAME, with USER@ before "
            "HOST (which needs `uv pip install -e '.[postgres]'`)"
        ) from error
    return engine


def ready(engine: sa.Engine) -> None:
    """Create the missing tables.

    Raises SQLAlchemyError or OSError where the store cannot be reached.
    """
    if engine.dialect.name == "sqlite" and engine.url.database:
        file = Path(engine.url.database)
        config.made(file.parent)
        if config.STATE in file.parts:
            config.private(file)
    try:
        metadata.create_all(engine)
    except sa.exc.DBAPIError:  # another process may have created them in between
        metadata.create_all(engine)


def insert_new(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that skips existing rows, so that writing twice is harmless."""
    return _insert(engine, table).on_conflict_do_nothing()


def upsert(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that replaces the row with the same primary key."""
    new = _insert(engine, table)
    keys = [column.name for column in table.primary_key]
    return new.on_conflict_do_update(
        index_elements=keys, set_={c.name: c for c in new.excluded if c.name not in keys}
    )


def add(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that adds its `n` to that of the row with the same primary key."""
    new = _insert(engine, table)
    return new.on_conflict_do_update(
        index_elements=[column.name for column in table.primary_key],
        set_={"n": table.c.n + new.excluded.n},
    )


def _insert(engine: sa.Engine, table: sa.Table) -> Any:
    return (sqlite if engine.dialect.name == "sqlite" else postgresql).insert(table)


def _tune(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")  # readers do not stop the writer
    # a power cut may lose the last records, never the file
    connection.execute("PRAGMA synchronous = NORMAL")
