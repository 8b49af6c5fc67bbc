"""The tables of the monitor store, in SQLite or, by URL, PostgreSQL.

predictions   a row an image: what was answered, how fast, and of what kind it was; no image
refusals      how many requests got no prediction: a row a minute, version and status, so that no
              flood of them displaces records
labels        what people said it really was, by the prediction's id; it may come before the row, or
              after it went
sources       the rows of reference.parquet of each model version that predicted
checks        a row a finished window: the smallest adjusted p-value of each test (see windows.py)
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
_key = sa.BigInteger().with_variant(
    sa.Integer, "sqlite"
)  # SQLite counts up by itself only for INTEGER

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
    sa.Column(
        "time", sa.Double, primary_key=True
    ),  # the start of the minute, in seconds since 1970
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
    """An engine; nothing is opened yet. Raises FieldmarkError for an address that SQLAlchemy does
    not know.

    A SQLite file is opened anew for every transaction, so that a file that was deleted or replaced
    is noticed.
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
            "HOST (which needs `uv pip install '.[postgres]'`)"
        ) from error
    return engine


def ready(engine: sa.Engine) -> None:
    """Make the tables that are not there; raises SQLAlchemyError or OSError where the store cannot
    be reached.
    """
    if engine.dialect.name == "sqlite" and engine.url.database:
        file = Path(engine.url.database)
        config.made(file.parent)
        if config.STATE in file.parts:
            config.private(file)
    try:
        metadata.create_all(engine)
    except sa.exc.DBAPIError:  # another process may have made them in between
        metadata.create_all(engine)


def insert_new(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that leaves rows alone that are there already: writing twice is harmless."""
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
    connection.execute(
        "PRAGMA synchronous = NORMAL"
    )  # a power cut may lose the last records, never the file
