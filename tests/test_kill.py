"""`kill -9` in the middle of any stage, then `dvc repro`: it completes, and nothing half-written
was used.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
import yaml
from conftest import rebuild_environment, smoke_project
from holding import held, wait_until
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from pipeline.evaluation import evidence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
]


class Kill(NamedTuple):
    """Where a stage is killed: before it writes or renames this file; `text` stands in it by
    then.
    """

    stage: str
    place: str
    victim: str
    text: str = ""


KILLS = [
    Kill(
        "ingest", "partial/ingest/metrics.json", "stage"
    ),  # images, table and quarantine are there, but no figures
    Kill(
        "label-check", "partial/label-check/suspects.csv", "dvc"
    ),  # the table is there, its report is not
    Kill(
        "preprocess", "scratch/preprocess/done", "both"
    ),  # arrays of the right shape, and no word on how much is filled
    Kill("augment", "partial/augment/sheet.png", "stage"),
    Kill(
        "model-search", r"cache/features/.*\.partial", "dvc"
    ),  # features computed, not yet in the cache
    Kill(
        "tune", "studies.journal", "both", text='(?s)"state": ?1,'
    ),  # a trial is written, the next one has ended
    Kill("evaluate", "partial/evaluate/report.html", "stage"),
    Kill("export", "partial/export/metrics.json", "dvc"),  # registered, but not yet in data/export
]
# What holds timings or the commit.
OTHERWISE = {
    "model-search/leaderboard.csv",
    "model-search/leaderboard.svg",
    "model-search/metrics.json",
    "evaluate/report.html",
    "evaluate/evidence.json",  # the commit and caveats with latencies; its figures are compared
    "export/card.md",
    "export/metrics.json",
}


class Seen(NamedTuple):
    """What there was right after a kill."""

    looks_finished: bool
    half_written: list[str]
    orphan: psutil.Process


class Survived(NamedTuple):
    folder: Path
    seen: dict[str, Seen]
    log: str


def half_written(folder: Path, stage: str) -> list[str]:
    partial = folder / ".fieldmark" / "partial" / stage
    return sorted(
        path.relative_to(partial).as_posix() for path in partial.rglob("*") if path.is_file()
    )


def finished(folder: Path, stage: str) -> bool:
    lock = folder / "dvc.lock"
    return (folder / "data" / stage).exists() or (
        lock.exists() and stage in yaml.safe_load(lock.read_text())["stages"]
    )


def kill(one: Kill, folder: Path, environment: dict[str, str]) -> Seen:
    with held("dvc repro", folder, environment, one.place, one.text) as (dvc, stage):
        orphan = psutil.Process(stage)
        if one.victim == "stage":
            orphan.kill()
        elif one.victim == "dvc":
            dvc.kill()
        else:
            os.killpg(dvc.pid, signal.SIGKILL)
        assert dvc.wait() != 0
        return Seen(finished(folder, one.stage), half_written(folder, one.stage), orphan)


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    """A project whose every stage was killed once, and which `dvc repro` then completed."""
    place = tmp_path_factory.mktemp("killed")
    folder = smoke_project(place / "project")
    environment = rebuild_environment(folder, place / "cache")
    seen = {one.stage: kill(one, folder, environment) for one in KILLS}
    done = subprocess.run(
        ["dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield Survived(folder, seen, done.stdout)


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    return list(
        client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    )


def statuses(folder: Path, name: str) -> list[str]:
    return sorted(run.info.status for run in runs(folder) if run.info.run_name == name)


@pytest.mark.parametrize("one", KILLS, ids=lambda one: f"{one.stage}, {one.victim} killed")
def test_a_killed_stage_does_not_look_finished(one: Kill, survived: Survived) -> None:
    assert not survived.seen[one.stage].looks_finished


@pytest.mark.parametrize(
    "stage", ["ingest", "label-check", "preprocess", "augment", "evaluate", "export"]
)
def test_what_was_half_written_lies_apart(stage: str, survived: Survived) -> None:
    """Otherwise the kill came before there was anything to be wrong."""
    assert survived.seen[stage].half_written


def test_nothing_of_the_killed_runs_is_left_behind(survived: Survived) -> None:
    assert list((survived.folder / ".fieldmark" / "partial").iterdir()) == []
    assert not (survived.folder / ".fieldmark" / "scratch" / "tune").exists()


@pytest.mark.parametrize(
    "one", [one for one in KILLS if one.victim == "dvc"], ids=lambda one: one.stage
)
def test_a_stage_stops_when_its_dvc_is_killed(one: Kill, survived: Survived) -> None:
    orphan = survived.seen[one.stage].orphan
    wait_until(
        lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE, one.stage
    )


def test_no_trial_is_lost_and_none_is_counted_twice(survived: Survived) -> None:
    """That which had ended is a run below each of both runs of the stage."""
    trials = pd.read_csv(survived.folder / "data" / "tune" / "trials.csv")
    assert trials["number"].tolist() == [0, 1, 2]
    names = [
        run.info.run_name for run in runs(survived.folder) if run.info.run_name.startswith("trial")
    ]
    assert set(names) == {"trial 0", "trial 1", "trial 2"}
    assert names.count("trial 0") == 2


@pytest.mark.parametrize("stage", [one.stage for one in KILLS])
def test_a_killed_run_is_shown_as_killed(stage: str, survived: Survived) -> None:
    assert statuses(survived.folder, stage) == ["FINISHED", "KILLED"]


def test_no_run_goes_on_for_ever(survived: Survived) -> None:
    parents = [run.info.status for run in runs(survived.folder) if "rebuild" in run.data.tags]
    assert sorted(parents) == ["FINISHED", *["KILLED"] * len(KILLS)]
    assert {run.info.status for run in runs(survived.folder)} == {"FINISHED", "KILLED"}


def test_the_candidate_is_the_model_of_the_run_that_ended(survived: Survived) -> None:
    client = MlflowClient(f"sqlite:///{survived.folder / 'mlflow.db'}")
    made = client.get_run(client.get_model_version_by_alias("fieldmark", "candidate").run_id)
    assert made.info.status == "FINISHED"
    assert (
        made.data.tags["out.hash"]
        == yaml.safe_load((survived.folder / "dvc.lock").read_text())["stages"]["export"]["outs"][
            0
        ]["md5"]
    )


# Last, so that these do not wait for `built`, which another worker makes meanwhile.
def results(folder: Path) -> dict[str, str]:
    files = {
        path.relative_to(folder / "data").as_posix(): path
        for path in (folder / "data").glob("*/**/*")
        if path.is_file()
    }
    return {
        name: sha256(file.read_bytes()).hexdigest()
        for name, file in files.items()
        if name not in OTHERWISE
    }


def test_the_results_are_those_of_an_undisturbed_rebuild(survived: Survived, built: Path) -> None:
    assert results(survived.folder) == results(built)
    ours, undisturbed = (
        evidence.read(folder / "data" / "evaluate") for folder in (survived.folder, built)
    )
    assert ours.figures == undisturbed.figures
    assert len(results(built)) > 25
