"""Promotions in processes of their own, forked from one that has the imports behind it, since those
take seconds.
"""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from contextlib import redirect_stdout
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pipeline import config

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pipeline.promotion.moves"])


WRITING = ("INSERT", "UPDATE", "DELETE")


def start(
    cfg: config.Config,
    version: str,
    *,
    what: str = "promote",
    killed_before: int = 0,
    folder: Path | None = None,
    **environment: str,
) -> ForkServerProcess:
    """`fieldmark promote VERSION`, or a rollback, in a folder (the working folder), where
    VERSION.log gets what it says.

    Its exit code is 2 where it was refused or failed. `killed_before` is the number of the write to
    the database before which it kills itself, counted from 1.
    """
    place = {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"], **environment}
    process = CONTEXT.Process(
        target=_move, args=(cfg, folder or Path.cwd(), version, what, killed_before, place)
    )
    process.start()
    return process


def _move(
    cfg: config.Config,
    folder: Path,
    version: str,
    what: str,
    killed_before: int,
    environment: Mapping[str, str],
) -> None:
    from pipeline import FieldmarkError
    from pipeline.promotion import moves

    os.environ.update(environment)
    os.chdir(folder)
    _die_before(killed_before)
    with Path(f"{version}.log").open("w", buffering=1) as log, redirect_stdout(log):
        try:
            if what == "promote":
                moves.promote(cfg, version, why=f"person {version}")
            else:
                moves.rollback(cfg, why=f"person {version}")
        except FieldmarkError as error:
            print(error)
            raise SystemExit(2) from error


def _die_before(write: int) -> None:
    """Kill this process before so manieth transaction that writes, whatever the database is told in
    it.
    """
    from sqlalchemy import Engine, event

    numbers = count(1)

    def note(connection: Any, _: Any, statement: str, *__: Any) -> None:
        if statement.lstrip().upper().startswith(WRITING):
            connection.info["wrote"] = True

    def commit(connection: Any) -> None:
        if connection.info.pop("wrote", False) and next(numbers) == write:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", note)
    event.listen(Engine, "commit", commit)
