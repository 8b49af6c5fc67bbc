"""MLflow: one parent run a rebuild, a child a stage, a grandchild a trial. The only `import mlflow`.

MLflow only watches: nothing in data/ depends on it. The store is SQLite in the project folder unless
MLFLOW_TRACKING_URI names another.
"""

import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
from filelock import FileLock
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline import config

EXPERIMENT = "fieldmark"
RECORDED = ("torch", "torchvision", "pytorch-lightning", "timm", "albumentations", "scikit-learn", "optuna",
            "openvino", "onnxruntime", "numpy", "opencv-python-headless", "dvc", "mlflow")  # fmt: skip


def connect() -> MlflowClient:
    """A client of the store, with the experiment made if it is not there."""
    named = os.environ.get("MLFLOW_TRACKING_URI")  # read before the next line, which sets it
    mlflow.set_tracking_uri(named or f"sqlite:///{config.home() / 'mlflow.db'}")
    lock = config.home() / ".fieldmark" / "store.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):  # two queued experiments that make the tables at once would break them
        client = MlflowClient()
        _make_experiment(client, None if named else (config.home() / "mlartifacts").as_uri())
    mlflow.set_experiment(EXPERIMENT)
    return client


def _make_experiment(client: MlflowClient, artifacts: str | None) -> None:
    if client.get_experiment_by_name(EXPERIMENT) is None:
        try:
            client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        except MlflowException as error:
            if client.get_experiment_by_name(EXPERIMENT) is None:  # another machine did not just make it
                raise error


@contextmanager
def stage_run(stage: str, tags: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[Run]:
    """A run of one stage below the parent run of the rebuild it belongs to; FAILED when the body raises."""
    client = connect()
    parent = _parent(client)
    client.update_run(parent, status="RUNNING")
    status = "FAILED"
    try:
        with mlflow.start_run(run_name=stage, parent_run_id=parent, log_system_metrics=False) as run:
            mlflow.set_tags({"stage": stage, **tags})
            mlflow.log_params({key: str(value)[:500] for key, value in _flat(settings).items()})
            mlflow.log_text(json.dumps(settings, indent=1, default=str), "config.json")
            yield run
        status = "FINISHED"
    finally:
        client.set_terminated(parent, status)


@contextmanager
def trial_run(name: str, params: Mapping[str, Any]) -> Iterator[Run]:
    """A run below the stage's: one candidate, one trial or the final fit."""
    with mlflow.start_run(run_name=name, nested=True) as run:
        mlflow.log_params({key: str(value) for key, value in params.items()})
        yield run


def log_metrics(metrics: Mapping[str, float], run: Run | None = None) -> None:
    """Numbers of a run as they are named: flat, with `/` between the split and the metric."""
    mlflow.log_metrics({key: float(value) for key, value in metrics.items()}, run_id=run.info.run_id if run else None)


def log_history(history: list[dict[str, float]]) -> None:
    """One row an epoch, in one request to the store."""
    active = mlflow.active_run()
    now = int(time.time() * 1000)
    points = [Metric(k, float(v), now, int(row["epoch"])) for row in history for k, v in row.items() if k != "epoch"]
    if active is not None:
        for i in range(0, len(points), 1000):  # the store's limit for one request
            MlflowClient().log_batch(active.info.run_id, metrics=points[i : i + 1000])


def log_files(folder: Path, patterns: tuple[str, ...] = ("*.png", "*.svg", "*.html", "*.csv", "*.json", "*.yaml", "*.md")) -> None:
    """The small readable files of a stage's output, as artifacts of its run."""
    for pattern in patterns:
        for file in sorted(folder.rglob(pattern)):
            parent = file.parent.relative_to(folder).as_posix()
            mlflow.log_artifact(str(file), None if parent == "." else parent)


def tag(tags: Mapping[str, str]) -> None:
    """Tags of the active run."""
    mlflow.set_tags(dict(tags))


def register(folder: Path, name: str, *, tags: Mapping[str, str], example: Any) -> str:
    """Register `folder`/model.onnx as a new version of `name` with the alias `candidate`; returns the version.

    example: uint8 (1, size, size, 3). Lineage and figures go onto the version as tags.
    """
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = json.loads((folder / "signature.json").read_text())
    specs = {
        side: Schema([TensorSpec(np.dtype(spec["dtype"]), tuple(spec["shape"]), spec["name"]) for spec in signature[side]])
        for side in ("inputs", "outputs")
    }
    pins = [f"{package}=={metadata.version(package)}" for package in ("onnxruntime", "onnx", "numpy")]
    info = mlflow.onnx.log_model(
        onnx.load(folder / "model.onnx"),
        name="model",
        signature=ModelSignature(specs["inputs"], specs["outputs"]),
        input_example=example,
        pip_requirements=pins,
        registered_model_name=name,
        metadata={"classes": signature["classes"]},
        save_as_external_data=False,
    )
    client, version = MlflowClient(), str(info.registered_model_version)
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.update_model_version(name, version, description=(folder / "card.md").read_text())
    client.set_registered_model_alias(name, "candidate", version)
    return version


def run_that_made(stage: str, output: str) -> Run | None:
    """The newest run of the stage whose output has this DVC hash: finds stages restored from DVC's cache too."""
    client = connect()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    query = f"tags.stage = '{stage}' and tags.`out.hash` = '{output}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment.experiment_id], query, max_results=1)
    return runs[0] if runs else None


def when(run: Run) -> str:
    """The start of a run in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000))


def code_tags() -> dict[str, str]:
    """Commit and dirty flag of the code, library versions, device."""
    return {
        "git.commit": _git("rev-parse", "HEAD") or "none",
        "git.dirty": str(bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock"))).lower(),
        "libraries": json.dumps({name: _version(name) for name in RECORDED}),
        "python": platform.python_version(),
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _parent(client: MlflowClient) -> str:
    """The run of the `dvc repro` (or the lone stage) that this process belongs to, made when it is the first."""
    rebuild = _rebuild()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    same = client.search_runs([experiment.experiment_id], f"tags.rebuild = '{rebuild}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    name = os.environ.get("DVC_EXP_NAME") or "rebuild " + time.strftime("%Y-%m-%d %H:%M:%S")
    tags = {"rebuild": rebuild, "mlflow.runName": name, **code_tags()}
    return str(client.create_run(experiment.experiment_id, run_name=name, tags=tags).info.run_id)


def _rebuild() -> str:
    """Names the nearest ancestor process that is DVC; a process number alone would be reused."""
    process = psutil.Process()
    dvc = next((p for p in process.parents() if any(Path(word).name == "dvc" for word in _words(p)[:3])), process)
    return f"{socket.gethostname()}-{dvc.pid}-{dvc.create_time():.2f}"


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # a parent that ended or is not ours to read is not our `dvc`
        return []


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
