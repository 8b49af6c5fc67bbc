"""The parent run of a rebuild: one `dvc repro`, or one stage that was started by hand."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from mlflow.tracking import MlflowClient

from pipeline.runs import processes
from pipeline.runs.entries import experiment, send

NAME = "%m-%d %H:%M:%S rebuild"  # MLflow's list shows 17 characters


def run_id(client: MlflowClient, tags: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The run of the rebuild that this process belongs to; created by its first stage."""
    rebuild = processes.name(processes.rebuild())
    same = client.search_runs([experiment(client)], f"tags.rebuild = '{rebuild}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    name = os.environ.get("DVC_EXP_NAME") or time.strftime(NAME)
    own = {"rebuild": rebuild, "process": rebuild, "mlflow.runName": name, **tags}
    run = str(client.create_run(experiment(client), run_name=name, tags=own).info.run_id)
    send(client, {"what": "settings", "run": run, "settings": dict(settings)})
    return run


def close_dead(client: MlflowClient) -> None:
    """Mark as KILLED the runs that ended processes of this host left as RUNNING."""
    running = f"attributes.status = 'RUNNING' and tags.process LIKE '{socket.gethostname()}/%'"
    for run in client.search_runs([experiment(client)], running):
        if not processes.ended(run.data.tags["process"]):
            continue
        # It may have finished since the search.
        if client.get_run(run.info.run_id).info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")
