"""MLflow: one parent run a rebuild, a child a stage, a grandchild a trial.

MLflow only watches: nothing in data/ depends on it, and a stage outlives a server that goes away
(see pending). The store is SQLite in the project folder unless MLFLOW_TRACKING_URI names another.
Every run carries the tags git.commit, git.dirty, data.hash (once there are data), seed, libraries,
python, device and process, and its whole configuration as parameters and as config.json.
"""

import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.runs import artifacts, failures, pending, processes, stores
from pipeline.runs.entries import EXPERIMENT, HANDLE, MODEL_FILES, experiment, send


class _Line:
    """What this process tells the store; from the first entry that a server does not take, all go
    to disk, so that they stay in order.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._journal: pending.Journal | None = None

    def send(self, what: str, run: str, **values: Any) -> str:
        """As `entries.send`; "" where the entry was kept."""
        entry = {"what": what, "run": run, **values}
        uri = stores.address()
        if self._journal is None:
            try:
                return send(self._client, entry)
            except Exception as error:
                if not (stores.is_remote(uri) and stores.is_away(error)):
                    raise
                self._journal = pending.Journal(stores.place(uri))
                print(
                    f"fieldmark: {stores.place(uri)} went away ({failures.reason(error)}); what it "
                    f"did not take is kept in .fieldmark/pending, for the next command that "
                    f"reaches it",
                    file=sys.stderr,
                )
        self._journal.add({**entry, "again": True})
        return ""

    def close(self) -> None:
        """Nothing more is sent; what was kept may be delivered."""
        if self._journal is not None:
            self._journal.close()


@dataclass(frozen=True)
class _Open:
    """A run that is under way: its id or handle, its tags, and the line that it uses."""

    run: str
    tags: Mapping[str, str]
    line: _Line


_open: list[_Open] = []  # the innermost run last


def connect(experiment: str = EXPERIMENT) -> MlflowClient:
    """A client of the store, with the experiment made if it is not there, and its runs going
    there; what the store did not take before is delivered.

    Raises FieldmarkError, within seconds, where the store does not answer.
    """
    client = stores.connect(experiment)
    place = stores.place(stores.address())
    if pending.folder().exists():
        try:
            if n := pending.deliver(place, lambda entry: send(client, entry)):
                print(f"{place} now has the {n} entries it did not take before", file=sys.stderr)
        except Exception as error:
            if not isinstance(error, KeyError | ValueError) and not stores.is_away(error):
                raise
            print(
                f"fieldmark: {place} did not take what is kept in .fieldmark/pending "
                f"({failures.reason(error)}); it stays there, and may be deleted",
                file=sys.stderr,
            )
    return client


@contextmanager
def stage_run(
    stage: str, tags: Mapping[str, str], settings: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[str]:
    """A run of one stage below the parent run of the rebuild it belongs to; FAILED when the body
    raises.

    settings: the sections of the stage; whole: all sections, which the rebuild records. Raises
    FieldmarkError where the store does not answer; where it goes away after that, nothing is lost.
    """
    client = connect()
    _close_dead(client)
    above = {key: value for key, value in tags.items() if not key.startswith("in.")}
    parent = _parent(client, above, whole)
    client.update_run(parent, status="RUNNING")
    line, status = _Line(client), "FAILED"
    own = {"stage": stage, "process": processes.name(), **tags}
    try:
        with _run(line, stage, parent, own, settings) as run:
            yield run
        status = "FINISHED"
    finally:
        line.send("end", parent, status=status, end=_now())
        line.close()


@contextmanager
def trial_run(parent: str, name: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """A run below the run `parent`, of this process or another, with its tags: one candidate, one
    trial or the final fit, with its whole configuration. Gives its id; FAILED when the body raises.
    parent: "" where it is below none.
    """
    above = _of(parent) if parent else _Open("", {}, _Line(connect()))
    tags = {key: value for key, value in above.tags.items() if key != "stage"}
    with _run(above.line, name, parent, tags, settings) as run:
        yield run
    if above not in _open:
        above.line.close()


@contextmanager
def _run(
    line: _Line, name: str, parent: str, tags: Mapping[str, str], settings: Mapping[str, Any]
) -> Iterator[str]:
    handle = f"{HANDLE}{uuid.uuid4().hex}"
    full = {
        **tags,
        "handle": handle,
        "mlflow.user": processes.person(),
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        **({"mlflow.parentRunId": parent} if parent else {}),
    }
    run = line.send("create", handle, name=name, tags=full, start=_now()) or handle
    status = "FAILED"
    _open.append(_Open(run, {**tags, "mlflow.parentRunId": parent}, line))
    try:
        line.send("settings", run, settings=dict(settings))
        yield run
        status = "FINISHED"
    finally:
        _open.pop()
        line.send("end", run, status=status, end=_now())


def log_metrics(
    metrics: Mapping[str, float], step: int | None = None, run_id: str | None = None
) -> None:
    """Numbers of a run, the innermost of this process by default, as they are named: flat, with `/`
    between the split and the metric.
    """
    points = [(key, float(value), step or 0) for key, value in metrics.items()]
    _send_metrics(points, run_id)


def log_result(metrics: Mapping[str, float]) -> None:
    """A stage's numbers, also on the run of its rebuild, so that rebuilds can be compared; of two
    stages' numbers of one name it keeps the later.
    """
    log_metrics(metrics)
    above = _open[-1].tags["mlflow.parentRunId"]
    _send_metrics([(key, float(value), 0) for key, value in metrics.items()], above)


def log_history(history: list[dict[str, float]], run_id: str) -> None:
    """The numbers of a training, one row per epoch, on a run."""
    points = [
        (key, float(value), int(row["epoch"]))
        for row in history
        for key, value in row.items()
        if key != "epoch"
    ]
    if points:
        _send_metrics(points, run_id)


def _send_metrics(points: list[tuple[str, float, int]], run_id: str | None) -> None:
    now, to = _now(), _of(run_id)
    to.line.send(
        "metrics", to.run, metrics=[(key, value, now, step) for key, value, step in points]
    )


def _of(run_id: str | None) -> _Open:
    """The run of that id, the innermost by default; one that another process opened is asked of the
    store.
    """
    if run_id is None:
        return _open[-1]
    for run in _open:
        if run.run == run_id:
            return run
        if run.tags["mlflow.parentRunId"] == run_id:  # the rebuild's, which is on the same line
            return _Open(run_id, {}, run.line)
    client = connect()
    tags = client.get_run(run_id).data.tags
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return _Open(run_id, own, _Line(client))


def log_files(folder: Path, *, share_pictures: bool) -> None:
    """The small readable files of a stage's output, as artifacts of its run. A server gets pictures
    of the data only where they may be shared.
    """
    pictures = share_pictures or not stores.is_remote(stores.address())
    names = artifacts.names(folder, pictures=pictures)
    _open[-1].line.send("files", _open[-1].run, path=str(folder), names=names, pictures=pictures)


def tag(tags: Mapping[str, str], run_id: str | None = None) -> None:
    """Tags of a run, the innermost of this process by default."""
    to = _of(run_id)
    to.line.send("tags", to.run, tags=dict(tags))


def tag_data(data_hash: str) -> None:
    """The hash of the data that the active run has just made, also on the run of its rebuild."""
    for run in (_open[-1].run, _open[-1].tags["mlflow.parentRunId"]):
        _open[-1].line.send("tags", run, tags={"data.hash": data_hash})


def register(folder: Path, name: str, *, tags: Mapping[str, str]) -> str:
    """Register `folder`/model.onnx as a new version of `name` with the alias `candidate`; returns
    the version and says so, "" where the server went away and gets it later.

    Lineage and figures go onto the version as tags. Its input example is noise: an image of the
    data would go wherever the model goes.
    """
    active = _open[-1]
    version = active.line.send(
        "register",
        active.run,
        path=str(folder),
        names=["model.onnx", *MODEL_FILES],
        name=name,
        tags=dict(tags),
    )
    if version:
        print(f"registered {name} version {version}, alias candidate", flush=True)
    return version


def download(uri: str, to: Path) -> Path:
    """The files of a model (`models:/fieldmark@production`, `models:/fieldmark/3`) below `to`, laid
    out as in data/export.
    """
    connect()
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(to)))


def alias_version(name: str, alias: str) -> str:
    """The version that an alias of a registered model names, "" where there is none."""
    client = connect()
    known = client.search_registered_models(f"name = '{name}'")
    return str(known[0].aliases.get(alias, "")) if known else ""


def run_that_made(stage: str, output: str) -> Run | None:
    """The newest run of the stage whose output has this DVC hash: finds stages restored from DVC's
    cache too.
    """
    client = connect()
    query = (
        f"tags.stage = '{stage}' and tags.`out.hash` = '{output}' and attributes.status = "
        f"'FINISHED'"
    )
    runs = client.search_runs([experiment(client)], query, max_results=1)
    return runs[0] if runs else None


def when(run: Run) -> str:
    """The start of a run in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000))


def _parent(client: MlflowClient, tags: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The run of the `dvc repro` (or the lone stage) that this process belongs to, made when it is
    the first.
    """
    rebuild = processes.name(processes.rebuild())
    same = client.search_runs([experiment(client)], f"tags.rebuild = '{rebuild}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    name = os.environ.get("DVC_EXP_NAME") or time.strftime(
        "%m-%d %H:%M:%S rebuild"
    )  # MLflow's list shows 17 letters
    own = {"rebuild": rebuild, "process": rebuild, "mlflow.runName": name, **tags}
    run_id = str(client.create_run(experiment(client), run_name=name, tags=own).info.run_id)
    send(client, {"what": "settings", "run": run_id, "settings": dict(settings)})
    return run_id


def _close_dead(client: MlflowClient) -> None:
    """Mark as KILLED what runs of this host's ended processes left as RUNNING."""
    left = f"attributes.status = 'RUNNING' and tags.process LIKE '{socket.gethostname()}/%'"
    for run in client.search_runs([experiment(client)], left):
        ended = processes.ended(run.data.tags["process"])
        if (
            ended and client.get_run(run.info.run_id).info.status == "RUNNING"
        ):  # not finished since the search
            client.set_terminated(run.info.run_id, "KILLED")


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)
