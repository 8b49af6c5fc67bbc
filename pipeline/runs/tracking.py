"""MLflow: one parent run a rebuild, a child a stage, a grandchild a trial.

MLflow only watches: nothing in data/ depends on it. The store is SQLite in the project folder
unless MLFLOW_TRACKING_URI names another. Every run carries the tags git.commit, git.dirty,
data.hash (once there are data), seed, libraries, python, device and process, and its whole
configuration as parameters and as config.json.
"""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report its use at import
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import config
from pipeline.runs import processes

EXPERIMENT = "fieldmark"
HOLD_PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def connect(experiment: str = EXPERIMENT) -> MlflowClient:
    """A client of the store, with the experiment made if it is not there, and its runs going
    there.
    """
    here = f"sqlite:///{config.home() / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or here
    mlflow.set_tracking_uri(uri)  # which sets the variable, too
    lock = config.home() / ".fieldmark" / "store.lock"
    config.made(lock.parent)
    with FileLock(lock):  # two queued experiments that make the tables at once would break them
        client = MlflowClient()
        _make_experiment(
            client, experiment, (config.home() / "mlartifacts").as_uri() if uri == here else None
        )
    mlflow.set_experiment(experiment)
    return client


def _make_experiment(client: MlflowClient, name: str, artifacts: str | None) -> None:
    there = client.get_experiment_by_name(name)
    if there is not None and artifacts and there.artifact_location != artifacts:
        _follow(str(there.artifact_location), artifacts)
    if there is None:
        try:
            client.create_experiment(name, artifact_location=artifacts)
        except MlflowException as error:
            if client.get_experiment_by_name(name) is None:  # another machine did not just make it
                raise error


def _follow(noted: str, artifacts: str) -> None:
    """In a project folder that was moved or copied, let MLflow's absolute paths name the
    `mlartifacts` beside its store.
    """
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


@contextmanager
def stage_run(
    stage: str, tags: Mapping[str, str], settings: Mapping[str, Any], whole: Mapping[str, Any]
) -> Iterator[Run]:
    """A run of one stage below the parent run of the rebuild it belongs to; FAILED when the body
    raises.

    settings: the sections of the stage; whole: all sections, which the rebuild records.
    """
    client = connect()
    _close_dead(client)
    parent = _parent(
        client, {key: value for key, value in tags.items() if not key.startswith("in.")}, whole
    )
    client.update_run(parent, status="RUNNING")
    status = "FAILED"
    try:
        own = {"stage": stage, "process": processes.name(), **tags}
        with mlflow.start_run(
            run_name=stage, parent_run_id=parent, tags=own, log_system_metrics=False
        ) as run:
            _log_settings(settings, run.info.run_id)
            yield run
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status)


@contextmanager
def trial_run(name: str, settings: Mapping[str, Any]) -> Iterator[Run]:
    """A run below the stage's, with its tags: one candidate, one trial or the final fit, with its
    whole configuration.
    """
    above = mlflow.active_run()
    tags = (
        {k: v for k, v in above.data.tags.items() if k != "stage" and not k.startswith("mlflow.")}
        if above
        else {}
    )
    with mlflow.start_run(run_name=name, nested=True, tags=tags, log_system_metrics=False) as run:
        _log_settings(settings, run.info.run_id)
        yield run


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Numbers of the active run as they are named: flat, with `/` between the split and the
    metric.
    """
    mlflow.log_metrics({key: float(value) for key, value in metrics.items()}, step=step)


def log_result(metrics: Mapping[str, float]) -> None:
    """A stage's numbers, also on the run of its rebuild, so that rebuilds can be compared; of two
    stages' numbers of one name it keeps the later.
    """
    log_metrics(metrics)
    run = mlflow.active_run()
    assert run is not None
    mlflow.log_metrics(dict(metrics), run_id=run.data.tags["mlflow.parentRunId"])


def log_history(history: list[dict[str, float]]) -> None:
    """The numbers of a training, one row an epoch, on the active run; nothing where none is
    active.
    """
    active = mlflow.active_run()
    now = int(time.time() * 1000)
    points = [
        Metric(k, float(v), now, int(row["epoch"]))
        for row in history
        for k, v in row.items()
        if k != "epoch"
    ]
    if active is not None:
        MlflowClient().log_batch(active.info.run_id, metrics=points)


def tag(tags: Mapping[str, str]) -> None:
    """Tags of the active run."""
    mlflow.set_tags(dict(tags))


def tag_data(data_hash: str) -> None:
    """The hash of the data that the active run has just made, also on the run of its rebuild."""
    run = mlflow.active_run()
    assert run is not None
    for run_id in (run.info.run_id, run.data.tags["mlflow.parentRunId"]):
        MlflowClient().set_tag(run_id, "data.hash", data_hash)


def register(folder: Path, name: str, *, tags: Mapping[str, str]) -> str:
    """Register `folder`/model.onnx as a new version of `name` with the alias `candidate`; returns
    the version.

    Lineage and figures go onto the version as tags. Its input example is noise: an image of the
    data would go wherever the model goes.
    """
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = json.loads((folder / "signature.json").read_text())
    specs = {
        side: Schema(
            [
                TensorSpec(np.dtype(spec["dtype"]), tuple(spec["shape"]), spec["name"])
                for spec in signature[side]
            ]
        )
        for side in ("inputs", "outputs")
    }
    pins = [
        f"{package}=={metadata.version(package)}" for package in ("onnxruntime", "onnx", "numpy")
    ]
    info = mlflow.onnx.log_model(  # registered further down, when all its files are there
        onnx.load(folder / "model.onnx"),
        name="model",
        signature=ModelSignature(specs["inputs"], specs["outputs"]),
        input_example=_noise(signature),
        pip_requirements=pins,
        onnx_execution_providers=[
            "CPUExecutionProvider"
        ],  # what the pinned runtime has; another one is for the user to ask
        metadata={"classes": signature["classes"]},
        save_as_external_data=False,
    )
    client = MlflowClient()
    for file in ("signature.json", "thresholds.json", "reference.parquet", "card.md"):
        client.log_model_artifact(info.model_id, str(folder / file))
    version = str(mlflow.register_model(f"models:/{info.model_id}", name).version)
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description=(folder / "card.md").read_text())
    client.set_registered_model_alias(name, "candidate", version)
    return version


def _noise(signature: Mapping[str, Any]) -> np.ndarray:
    """uint8 (1, size, size, 3), the same for all models of a size."""
    shape = tuple(signature["inputs"][0]["shape"][1:])
    return np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)


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
    runs = client.search_runs([_experiment(client)], query, max_results=1)
    return runs[0] if runs else None


def when(run: Run) -> str:
    """The start of a run in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000))


def _parent(client: MlflowClient, tags: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The run of the `dvc repro` (or the lone stage) that this process belongs to, made when it is
    the first.
    """
    rebuild = processes.name(processes.rebuild())
    same = client.search_runs([_experiment(client)], f"tags.rebuild = '{rebuild}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    name = os.environ.get("DVC_EXP_NAME") or time.strftime(
        "%m-%d %H:%M:%S rebuild"
    )  # MLflow's list shows 17 letters
    own = {"rebuild": rebuild, "process": rebuild, "mlflow.runName": name, **tags}
    run_id = str(client.create_run(_experiment(client), run_name=name, tags=own).info.run_id)
    _log_settings(settings, run_id)
    return run_id


def _close_dead(client: MlflowClient) -> None:
    """Mark as KILLED what runs of this host's ended processes left as RUNNING."""
    left = f"attributes.status = 'RUNNING' and tags.process LIKE '{socket.gethostname()}/%'"
    for run in client.search_runs([_experiment(client)], left):
        ended = processes.ended(run.data.tags["process"])
        if (
            ended and client.get_run(run.info.run_id).info.status == "RUNNING"
        ):  # not finished since the search
            client.set_terminated(run.info.run_id, "KILLED")


def _experiment(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return str(experiment.experiment_id)


def _log_settings(settings: Mapping[str, Any], run_id: str) -> None:
    mlflow.log_params(
        {key: str(value)[:500] for key, value in _flat(settings).items()}, run_id=run_id
    )
    mlflow.log_text(json.dumps(settings, indent=1, default=str), "config.json", run_id=run_id)


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
