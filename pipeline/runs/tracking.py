"""MLflow: one parent run per rebuild, one child per stage, one grandchild per trial.

MLflow only observes: nothing in data/ depends on it, and a stage goes on when the server goes away
(see pending). The store is SQLite in the project folder unless MLFLOW_TRACKING_URI names another.
Every run carries the tags git.commit, git.dirty, data.hash (once there are data), seed, libraries,
python, device and process, and its whole configuration as parameters and as config.json.
"""

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

from pipeline.runs import artifacts, processes, rebuilds, stores
from pipeline.runs.delivery import Line
from pipeline.runs.delivery import connect as connect
from pipeline.runs.entries import HANDLE, HEADLINE, MODEL_FILES, experiment


@dataclass(frozen=True)
class _Open:
    """A run that is under way: its id or handle, its tags, and the line that it uses."""

    run: str
    tags: Mapping[str, str]
    line: Line


_open: list[_Open] = []  # the innermost run last


@contextmanager
def stage_run(
    stage: str, tags: Mapping[str, str], settings: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[str]:
    """A run of one stage below the run of its rebuild; FAILED when the body raises.

    settings: the sections of the stage; whole: all sections, which the rebuild records. Raises
    FieldmarkError where the store does not answer. Where it goes away later, nothing is lost.
    """
    client = connect()
    rebuilds.close_dead(client)
    above = {key: value for key, value in tags.items() if not key.startswith("in.")}
    parent = rebuilds.run_id(client, above, whole)
    client.update_run(parent, status="RUNNING")
    line, status = Line(client), "FAILED"
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
    """A run below the run `parent`: one candidate, one trial or the final fit; yields its id.

    parent: a run of this process or another, whose tags it gets; "" where it is below none.
    settings: its whole configuration. It is FAILED when the body raises.
    """
    above = _of(parent) if parent else _Open("", {}, Line(connect()))
    tags = {key: value for key, value in above.tags.items() if key != "stage"}
    with _run(above.line, name, parent, tags, settings) as run:
        yield run
    if above not in _open:
        above.line.close()


@contextmanager
def _run(
    line: Line, name: str, parent: str, tags: Mapping[str, str], settings: Mapping[str, Any]
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
    """Numbers of a run, by flat names with `/` between split and metric.

    run_id: the innermost run of this process by default.
    """
    points = [(key, float(value), step or 0) for key, value in metrics.items()]
    _send_metrics(points, run_id)


def log_result(metrics: Mapping[str, float]) -> None:
    """A stage's numbers, and those of HEADLINE also on the run of its rebuild."""
    log_metrics(metrics)
    above = _open[-1].tags["mlflow.parentRunId"]
    points = [(key, float(metrics[key]), 0) for key in HEADLINE if key in metrics]
    if points:
        _send_metrics(points, above)


def describe(text: str) -> None:
    """What MLflow shows as the description of the rebuild that the active run belongs to."""
    tag({"mlflow.note.content": text}, _open[-1].tags["mlflow.parentRunId"])


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
    """The run of that id, by default the innermost of this process.

    A run that another process opened is read from the store.
    """
    if run_id is None:
        return _open[-1]
    for run in _open:
        if run.run == run_id:
            return run
        if run.tags["mlflow.parentRunId"] == run_id:  # the rebuild's, on the same line
            return _Open(run_id, {}, run.line)
    client = connect()
    tags = client.get_run(run_id).data.tags
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return _Open(run_id, own, Line(client))


def log_files(folder: Path, *, share_pictures: bool) -> None:
    """The small readable files of a stage's output, as artifacts of its run.

    A server gets pictures of the data only where they may be shared.
    """
    pictures = share_pictures or not stores.is_remote(stores.address())
    names = artifacts.names(folder, pictures=pictures)
    _open[-1].line.send("files", _open[-1].run, path=str(folder), names=names, pictures=pictures)


def tag(tags: Mapping[str, str], run_id: str | None = None) -> None:
    """Tags of a run, the innermost of this process by default."""
    to = _of(run_id)
    to.line.send("tags", to.run, tags=dict(tags))


def tag_data(data_hash: str) -> None:
    """The hash of the data that the active run produced, also on the run of its rebuild."""
    for run in (_open[-1].run, _open[-1].tags["mlflow.parentRunId"]):
        _open[-1].line.send("tags", run, tags={"data.hash": data_hash})


def register(folder: Path, name: str, *, tags: Mapping[str, str]) -> str:
    """Register `folder`/model.onnx as a new version of `name`, with the alias `candidate`.

    Returns the version and prints it; "" where the server went away and gets it later. Lineage and
    figures become tags of the version. Its input example is noise: an image of the data would go
    wherever the model goes.
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
    """The files of a model below `to`, laid out as in data/export.

    uri: for example `models:/fieldmark@production` or `models:/fieldmark/3`.
    """
    connect()
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(to)))


def alias_version(name: str, alias: str) -> str:
    """The version that an alias of a registered model names, "" where there is none."""
    client = connect()
    models = client.search_registered_models(f"name = '{name}'")
    return str(models[0].aliases.get(alias, "")) if models else ""


def run_that_made(stage: str, output: str) -> Run | None:
    """The newest run of the stage whose output has this DVC hash.

    It also finds the run of a stage that was restored from DVC's cache.
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


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)
