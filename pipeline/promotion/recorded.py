"""An old rebuild, found by a run's id, a version or an alias: what it was made of, its figures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline import FieldmarkError, config
from pipeline.config import Config
from pipeline.promotion.registry import Registry, answering, connect
from pipeline.runs import tracking


@dataclass(frozen=True)
class Recorded:
    """A rebuild on record: its commit, the hash of its ingested data, libraries and figures."""

    title: str
    commit: str
    data: str
    libraries: Mapping[str, str]
    figures: Mapping[str, float]


@answering()
def find(cfg: Config, title: str) -> Recorded:
    """The rebuild of a run's id, a version or an alias; for a stage's run, its rebuild.

    Raises FieldmarkError where it cannot be rebuilt.
    """
    registry = connect(cfg.name)
    run = _run(registry, title)
    while parent := run.data.tags.get("mlflow.parentRunId"):
        run = registry.client.get_run(parent)
    stages = _stages(registry, run)
    for tags in [run.data.tags, *(stage.data.tags for stage in stages.values())]:
        _check_code(title, tags, run.data.tags.get("git.commit", "unknown"))
    whole, order = _whole(stages), list(config.wiring())
    in_order = sorted(whole, key=lambda stage: order.index(stage) if stage in order else -1)
    # Where stages share a name, the later stage's figure, as in reproduce._figures.
    figures = {
        name: value for stage in in_order for name, value in whole[stage].data.metrics.items()
    }
    if not figures or "data.hash" not in run.data.tags:
        raise FieldmarkError(
            f"{title} has no figures or no data on record; name a rebuild that finished, or a "
            f"version it registered"
        )
    tags = run.data.tags
    return Recorded(
        f"{title} ({run.info.run_name})",
        tags["git.commit"],
        tags["data.hash"],
        json.loads(tags["libraries"]),
        figures,
    )


def _check_code(name: str, tags: Mapping[str, str], commit: str) -> None:
    """Raise FieldmarkError where no commit holds the code that ran."""
    if commit in {"none", "unknown"} or tags.get("git.dirty") not in {"true", "false"}:
        why = "ran where git did not say which code it was"
    elif tags["git.dirty"] == "true" or tags.get("git.commit") != commit:
        files = tags.get("git.uncommitted")
        why = f"ran with uncommitted changes{f' ({files})' if files else ''}"
    else:
        return
    raise FieldmarkError(f"{name} {why}: its code is nowhere on record, so it cannot be reproduced")


def _run(registry: Registry, name: str) -> Run:
    try:
        run: Run = registry.client.get_run(name)
        return run
    except MlflowException:
        version = registry.find(name)
    try:
        return registry.client.get_run(str(version.run_id))
    except MlflowException as error:
        raise FieldmarkError(
            f"the run that made version {version.version} is not in this store; its server has it"
        ) from error


def _stages(registry: Registry, rebuild: Run) -> dict[str, Run]:
    """The finished stages of a rebuild by name; where one ran twice, the later run."""
    query = (
        f"tags.`mlflow.parentRunId` = '{rebuild.info.run_id}' and attributes.status = 'FINISHED'"
    )
    runs = registry.client.search_runs(
        [rebuild.info.experiment_id], query, order_by=["attributes.start_time ASC"]
    )
    return {run.data.tags["stage"]: run for run in runs if "stage" in run.data.tags}


def _whole(stages: Mapping[str, Run]) -> dict[str, Run]:
    """A rebuild's own stages, and those that it did not need to run, by their output's hash."""
    whole, unvisited = dict(stages), list(stages.values())
    while unvisited:
        for key, output in unvisited.pop().data.tags.items():
            stage = key.removeprefix("in.")
            if (
                key.startswith("in.")
                and stage not in whole
                and (run := tracking.run_that_made(stage, output))
            ):
                whole[stage] = run
                unvisited.append(run)
    return whole
