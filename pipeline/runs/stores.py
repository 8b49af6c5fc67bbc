"""The tracking store in use: located, probed, and prepared.

It is SQLite in the project folder unless MLFLOW_TRACKING_URI names another. A store behind a
network may be away: nobody waits longer than `PATIENCE_S` to learn that, unless they set MLflow's
own MLFLOW_HTTP_REQUEST_TIMEOUT.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import requests
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import FieldmarkError, config, redacted
from pipeline.runs import failures

# They print every retry, and MLflow logs its own exception with a traceback.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: not record.exc_info)

PATIENCE_S = 4
SQLITE = "sqlite:///"
LOCAL = ("sqlite:", "file:", "/", ".")
HOLD_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
# The clients of the stores that a server puts artifacts in.
CLOUD = {"botocore", "boto3", "google", "azure"}


class Away(FieldmarkError):
    """The tracking server does not answer."""


def address() -> str:
    """The store's address; the database in the project folder where the environment names none."""
    return os.environ.get("MLFLOW_TRACKING_URI") or beside_project()


def beside_project() -> str:
    """The address of the store that a project has without a server."""
    return f"sqlite:///{config.home() / 'mlflow.db'}"


def is_remote(uri: str) -> bool:
    """Whether a network lies between this machine and the store."""
    return not uri.startswith(LOCAL)


def place(uri: str) -> str:
    """The address without user, password and query, fit to be printed and recorded."""
    parts = urlsplit(uri)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def is_away(error: BaseException) -> bool:
    """Whether an exception means that the store, or its artifact store, did not take something."""
    kinds = (
        MlflowException,
        sqlalchemy.exc.SQLAlchemyError,
        requests.RequestException,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, kinds) or type(error).__module__.partition(".")[0] in CLOUD


def connect(experiment: str) -> MlflowClient:
    """A client of the store, with the experiment, which is created where it is missing.

    Raises Away, within seconds, where the store is behind a network and does not answer.
    """
    uri = address()
    mlflow.set_tracking_uri(uri)  # this sets the variable, too
    if redacted(uri) != uri:  # MLflow prints the address of every run, with user and password
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    if is_remote(uri):
        _knock(uri, experiment)
    elif uri.startswith(SQLITE):
        _open(Path(uri.removeprefix(SQLITE)))
    own = uri == beside_project()
    lock = config.home() / ".fieldmark" / "store.lock"
    config.made(lock.parent)
    with FileLock(lock):  # two queued experiments that create the tables at once would break them
        client = MlflowClient()
        _make_experiment(
            client, experiment, (config.home() / "mlartifacts").as_uri() if own else None
        )
    mlflow.set_experiment(experiment)
    return client


def _open(file: Path) -> None:
    """Raise FieldmarkError where the database cannot be written; MLflow would retry for minutes."""
    try:
        with closing(sqlite3.connect(file, timeout=30)) as store:
            store.execute("BEGIN IMMEDIATE")
            store.rollback()
    except sqlite3.Error as error:
        raise FieldmarkError(
            f"{file} cannot be used ({error}); see that the file and its folder belong to you, are "
            f"writable, and that the disk is not full"
        ) from error


def _knock(uri: str, experiment: str) -> None:
    """Raise Away where the store does not answer in time.

    It runs in a thread, since neither the lookup of a host's name nor a database's driver takes a
    time limit.
    """
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            with _one_try():
                MlflowClient(uri).get_experiment_by_name(experiment)
        except BaseException as error:  # handed to the thread that waits
            problems.append(error)

    patience = _patience()
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience + 1)
    if not asking.is_alive() and not problems:
        return
    why = failures.reason(problems[0]) if problems else f"no answer within {patience + 1} s"
    raise Away(
        f"the store failed ({place(uri)}: {why}); try again once it answers, or name another one "
        f"in MLFLOW_TRACKING_URI"
    ) from (problems[0] if problems else None)


def _patience() -> int:
    """Seconds to wait; MLflow's own limit where somebody set it."""
    return int(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT") or PATIENCE_S)


@contextmanager
def _one_try() -> Iterator[None]:
    """Set MLflow's limits to one short try; it reads them from the environment at each request."""
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_patience()),
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_experiment(client: MlflowClient, name: str, artifacts: str | None) -> None:
    there = client.get_experiment_by_name(name)
    if there is not None and artifacts and there.artifact_location != artifacts:
        _follow(str(there.artifact_location), artifacts)
    if there is None:
        try:
            client.create_experiment(name, artifact_location=artifacts)
        except MlflowException as error:
            if client.get_experiment_by_name(name) is None:  # no other machine has just created it
                raise error


def _follow(noted: str, artifacts: str) -> None:
    """Let MLflow's absolute paths name the `mlartifacts` beside a moved or copied store."""
    own = config.home() / "mlartifacts"
    if not own.is_dir() or not noted.endswith("/mlartifacts"):
        return
    with closing(sqlite3.connect(config.home() / "mlflow.db", timeout=30)) as store, store:
        for table, column in HOLD_PATHS:
            store.execute(
                f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) WHERE "
                f"substr({column} || '/', 1, length(?2) + 1) = ?2 || '/'",
                (artifacts, noted),
            )
