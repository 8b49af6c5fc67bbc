"""Promotions in processes of their own, forked from one that has the imports behind it, since those take seconds."""

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pipeline import config

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pipeline.promotion.moves"])


def start(cfg: config.Config, version: str, *, held_before: str = "", **environment: str) -> ForkServerProcess:
    """`fieldmark promote VERSION` in the working folder, where VERSION.log gets what it says; its exit code is 2 where it was refused or failed.

    Where it is to be held, it waits for ever before that method of MlflowClient, with the file `held` as the sign.
    """
    place = {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"], **environment}
    process = CONTEXT.Process(target=_move, args=(cfg, Path.cwd(), version, held_before, place))
    process.start()
    return process


def _move(cfg: config.Config, folder: Path, version: str, held_before: str, environment: Mapping[str, str]) -> None:
    from mlflow.tracking import MlflowClient

    from pipeline.errors import FieldmarkError
    from pipeline.promotion import moves

    def hold(*_: Any, **__: Any) -> None:
        Path("held").touch()
        time.sleep(3600)

    os.environ.update(environment)
    os.chdir(folder)
    if held_before:
        setattr(MlflowClient, held_before, hold)
    with Path(f"{version}.log").open("w", buffering=1) as log, redirect_stdout(log):
        try:
            moves.promote(cfg, version, why=f"person {version}")
        except FieldmarkError as error:
            print(error)
            raise SystemExit(2) from error
