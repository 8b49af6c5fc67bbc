"""What a stage sends to the tracking server, one entry per call, so that it can be sent later.

An entry is plain data. `what` names the function here that sends it. `run` is the run it is about:
MLflow's id or, where the server was away when the run began, the tag `handle` that the run will
carry.
"""

import json
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from pipeline import config, redacted
from pipeline.runs import artifacts
from pipeline.runs.pending import Entry

# What rebuilds are compared by: MLflow's list of runs has a column for each number of a run.
HEADLINE = (
    *("test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/f1_macro", "test/ece"),
    *("val/accuracy", "latency/p50_ms"),
)
# Stands first on the version's page, beside MLflow's own buttons for aliases.
MOVES = (
    "`fieldmark promote {}` puts this version into production if it passes its gates, and keeps a "
    "record. An alias that is set here is tested by nothing."
)
HANDLE = "kept-"  # the prefix of a run that the server does not know yet
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # MLflow's own limits
MODEL_FILES = ("signature.json", "thresholds.json", "reference.parquet", "card.md")


def send(client: MlflowClient, entry: Entry) -> str:
    """Send one entry; returns the id of the run or version that it creates, else ""."""
    resolved = {**entry, "run": _id(client, entry["run"])} if entry["what"] != "create" else entry
    return _SEND[entry["what"]](client, resolved)


def experiment(client: MlflowClient) -> str:
    """The id of the experiment of all rebuilds and stages, which has the project's name."""
    there = client.get_experiment_by_name(config.project())
    assert there is not None
    return str(there.experiment_id)


def _id(client: MlflowClient, run: str) -> str:
    """MLflow's id of a run; raises KeyError for a handle that no run carries."""
    return run if not run.startswith(HANDLE) else _by_handle(client, run) or _missing(run)


def _missing(run: str) -> str:
    raise KeyError(run)


def _by_handle(client: MlflowClient, handle: str) -> str:
    same = client.search_runs([experiment(client)], f"tags.handle = '{handle}'", max_results=1)
    return str(same[0].info.run_id) if same else ""


def _create(client: MlflowClient, entry: Entry) -> str:
    """Create a run, unless an earlier delivery created it and its answer was lost."""
    tags = entry["tags"]
    if entry.get("again") and (there := _by_handle(client, tags["handle"])):
        return there
    if "mlflow.parentRunId" in tags:
        tags = {**tags, "mlflow.parentRunId": _id(client, tags["mlflow.parentRunId"])}
    run = client.create_run(experiment(client), entry["start"], tags, run_name=entry["name"])
    return str(run.info.run_id)


def _settings(client: MlflowClient, entry: Entry) -> str:
    params = [Param(key, redacted(value)[:500]) for key, value in _flat(entry["settings"]).items()]
    for start in range(0, len(params), PARAMS_AT_ONCE):
        client.log_batch(entry["run"], params=params[start : start + PARAMS_AT_ONCE])
    text = redacted(json.dumps(entry["settings"], indent=1, default=str))
    client.log_text(entry["run"], text, "config.json")
    return ""


def _metrics(client: MlflowClient, entry: Entry) -> str:
    points = [Metric(*point) for point in entry["metrics"]]
    for start in range(0, len(points), METRICS_AT_ONCE):
        client.log_batch(entry["run"], metrics=points[start : start + METRICS_AT_ONCE])
    return ""


def _tags(client: MlflowClient, entry: Entry) -> str:
    client.log_batch(entry["run"], tags=[RunTag(*tag) for tag in entry["tags"].items()])
    return ""


def _files(client: MlflowClient, entry: Entry) -> str:
    for name in entry["names"]:
        parent = Path(name).parent.as_posix()
        file = Path(entry["path"]) / name
        if file.suffix == ".html" and not entry.get("pictures", True):
            page = artifacts.without_pictures(file.read_text(encoding="utf-8"))
            client.log_text(entry["run"], page, name)
        else:
            client.log_artifact(entry["run"], str(file), None if parent == "." else parent)
    return ""


def _end(client: MlflowClient, entry: Entry) -> str:
    client.set_terminated(entry["run"], entry["status"], entry["end"])
    return ""


def _register(client: MlflowClient, entry: Entry) -> str:
    """A new version with its files, tags and the alias `candidate`.

    Where an earlier delivery was cut off after it registered the version, only the rest is added.
    """
    folder, name = Path(entry["path"]), entry["name"]
    same = f"name = '{name}' and run_id = '{entry['run']}'"
    there = client.search_model_versions(same) if entry.get("again") else []
    version = str(there[0].version) if there else _new_version(client, entry)
    for key, value in entry["tags"].items():
        client.set_model_version_tag(name, version, key, value)
    card = (folder / "card.md").read_text(encoding="utf-8")
    client.update_model_version(name, version, description=f"{MOVES.format(version)}\n\n{card}")
    client.set_registered_model_alias(name, "candidate", version)
    return version


def _new_version(client: MlflowClient, entry: Entry) -> str:
    """Registered last, when all its files are there."""
    mlflow.set_experiment(config.project())
    with mlflow.start_run(run_id=entry["run"], log_system_metrics=False):
        model_id = _log_model(Path(entry["path"]))
    client.update_run(entry["run"], status="RUNNING")  # `end` closes it later
    for file in MODEL_FILES:
        client.log_model_artifact(model_id, str(Path(entry["path"]) / file))
    return str(mlflow.register_model(f"models:/{model_id}", entry["name"]).version)


def _log_model(folder: Path) -> str:
    """MLflow's id of the model; it is not registered yet."""
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    signature = json.loads((folder / "signature.json").read_text(encoding="utf-8"))
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
    info = mlflow.onnx.log_model(
        onnx.load(folder / "model.onnx"),
        name="model",
        signature=ModelSignature(specs["inputs"], specs["outputs"]),
        input_example=_noise(signature),
        pip_requirements=pins,
        # The pinned runtime has this one; another one is the user's choice.
        onnx_execution_providers=["CPUExecutionProvider"],
        metadata={"classes": signature["classes"]},
        save_as_external_data=False,
    )
    return str(info.model_id)


def _noise(signature: Mapping[str, Any]) -> np.ndarray:
    """uint8 (1, size, size, 3), the same for all models of a size."""
    shape = tuple(signature["inputs"][0]["shape"][1:])
    return np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


_SEND: dict[str, Callable[[MlflowClient, Entry], str]] = {
    "create": _create,
    "settings": _settings,
    "metrics": _metrics,
    "tags": _tags,
    "files": _files,
    "end": _end,
    "register": _register,
}
