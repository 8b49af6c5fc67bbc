"""Where studies are kept: a journal in the project, or a PostgreSQL by FIELDMARK_STUDY_URL.

Only trials that have ended stand there, in the order of their numbers, and only one process writes:
the one that runs the study. `optuna-dashboard .fieldmark/studies.journal` shows them all.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from pipeline import FieldmarkError, config, one_line

VARIABLE = "FIELDMARK_STUDY_URL"
Direction = Literal["maximize", "minimize"]
JOURNAL = Path(config.STATE) / "studies.journal"


@contextmanager
def opened(name: str, direction: Direction) -> Iterator[optuna.Study]:
    """The study of that name, or a new one.

    Raises FieldmarkError where the database of FIELDMARK_STUDY_URL cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = os.environ.get(VARIABLE)
    storage = _database(url) if url else _journal()
    try:
        yield optuna.create_study(
            study_name=name, storage=storage, direction=direction, load_if_exists=True
        )
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _journal() -> BaseStorage:
    config.made(JOURNAL.parent)
    _mend(JOURNAL)
    return JournalStorage(JournalFileBackend(str(JOURNAL)))


def _mend(journal: Path) -> None:
    """Remove what a process leaves that is killed while it writes: nobody else writes here, since
    a stage runs only once at a time.
    """
    for left in journal.parent.glob(f"{journal.name}.lock*"):
        left.unlink()  # Optuna would wait for it for ever
    if journal.exists():
        whole, end, _ = journal.read_bytes().rpartition(b"\n")
        os.truncate(journal, len(whole + end))  # a line that follows half a line could not be read


def _database(url: str) -> RDBStorage:
    try:
        target = make_url(url)
        if target.drivername == "postgresql":
            target = target.set(drivername="postgresql+psycopg")
        return RDBStorage(target.render_as_string(hide_password=False))
    except (SQLAlchemyError, ImportError) as error:
        raise FieldmarkError(
            f"{VARIABLE}: {one_line(error)}; write postgresql://USER@HOST/NAME (which needs "
            "`uv pip install -e '.[postgres]'`)"
        ) from error
