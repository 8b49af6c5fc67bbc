"""Where runs and artifacts go."""

import json
import subprocess
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from pipeline import cli
from pipeline.promotion import registry
from pipeline.runs import entries, tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")


def artifact_location() -> str:
    experiment = tracking.connect().get_experiment_by_name("fieldmark")
    assert experiment is not None
    return str(experiment.artifact_location)


def test_without_a_server_everything_stays_in_the_project_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow sets MLFLOW_TRACKING_URI itself, which once sent the artifacts elsewhere."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert artifact_location() == (tmp_path / "mlartifacts").as_uri()
    assert (tmp_path / "mlflow.db").exists()


def test_a_named_store_is_used_and_keeps_its_own_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'theirs.db'}")
    monkeypatch.chdir(tmp_path)
    assert not artifact_location().endswith("mlartifacts")
    assert (tmp_path / "theirs.db").exists()


def test_a_project_folder_that_was_moved_takes_its_runs_and_models_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow notes absolute paths: a moved project did not find its models, and a copy wrote into
    the original.
    """
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    monkeypatch.chdir(old)
    client = tracking.connect()
    with mlflow.start_run() as run:
        mlflow.log_text("kept", "note.txt")
    client.create_registered_model("m")
    client.create_model_version("m", f"{run.info.artifact_uri}", run.info.run_id)
    old.rename(new)
    monkeypatch.chdir(new)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracking.connect()
    assert (tracking.download(f"runs:/{run.info.run_id}/note.txt", tmp_path)).read_text() == "kept"
    assert (tracking.download("models:/m/1", tmp_path / "model") / "note.txt").read_text() == "kept"
    assert artifact_location() == (new / "mlartifacts").as_uri()


def test_a_rebuild_says_what_it_reached_and_has_few_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    monkeypatch.chdir(tmp_path)
    with tracking.stage_run("evaluate", {}, {}, {}) as run:
        tracking.log_result({"test/accuracy": 0.9, "test/n": 656.0})
        tracking.describe("90.0% right")
    stage = tracking.connect().get_run(run).data
    rebuild = tracking.connect().get_run(stage.tags["mlflow.parentRunId"]).data
    assert stage.metrics == {"test/accuracy": 0.9, "test/n": 656.0}
    assert rebuild.metrics == {"test/accuracy": 0.9}
    assert rebuild.tags["mlflow.note.content"] == "90.0% right"


def test_two_projects_share_a_store_and_keep_runs_and_moves_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    found = {}
    for name in ("birds", "cells"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("params.yaml").write_text(f"name: {name}\n")
        with tracking.stage_run("ingest", {"out.hash": name}, {}, {}):
            pass
        moves = registry.connect(name).experiment
        found[name] = (entries.experiment(tracking.connect()), moves)
    assert len({*found["birds"], *found["cells"]}) == 4
    assert tracking.run_that_made("ingest", "birds") is None
    assert tracking.run_that_made("ingest", "cells") is not None


def test_make_ui_says_where_the_runs_are_when_they_are_on_a_server() -> None:
    """Served here they are not: `mlflow ui` does not take the address of another server."""
    command = ["make", "--old-file=.venv/ready", "ui", "MLFLOW_TRACKING_URI=http://tracking:5000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ": http://tracking:5000/#/experiments?workflowType=machine_learning\n" in done.stdout


STAGES = [
    "ingest",
    "label-check",
    "preprocess",
    "augment",
    "model-search",
    "tune",
    "evaluate",
    "export",
]
EVERY_RUN = {"git.commit", "git.dirty", "data.hash", "seed", "libraries", "python", "device"}


def runs(folder: Path) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()]
    )
    return {run.info.run_id: run for run in runs}


def below(parent: Run, everything: dict[str, Run]) -> list[str]:
    return sorted(
        r.info.run_name
        for r in everything.values()
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    )


def named(name: str, everything: dict[str, Run]) -> Run:
    return next(run for run in everything.values() if run.info.run_name == name)


def test_a_rebuild_is_a_run_with_a_child_for_each_stage_and_a_grandchild_for_each_trial(
    built: Path,
) -> None:
    everything = runs(built)
    top = [run for run in everything.values() if "mlflow.parentRunId" not in run.data.tags]
    assert len(top) == 1 and below(top[0], everything) == sorted(STAGES)
    assert below(named("tune", everything), everything) == ["best", "trial 0", "trial 1", "trial 2"]
    assert len(below(named("model-search", everything), everything)) == 3
    assert {run.info.status for run in everything.values()} == {"FINISHED"}


def test_every_run_says_from_which_code_data_settings_and_libraries_it_came(built: Path) -> None:
    everything = runs(built).values()
    assert [run.info.run_name for run in everything if not run.data.tags.keys() >= EVERY_RUN] == []
    assert [run.info.run_name for run in everything if not run.data.params] == []
    assert len({run.data.tags["data.hash"] for run in everything}) == 1


def test_rebuilds_can_be_compared_by_their_figures(built: Path) -> None:
    top = next(run for run in runs(built).values() if "rebuild" in run.data.tags)
    tested = json.loads((built / "data" / "evaluate" / "metrics.json").read_text())
    assert top.data.metrics.keys() == {*entries.HEADLINE}
    assert " right (" in top.data.tags["mlflow.note.content"]
    assert top.data.metrics["test/accuracy"] == tested["test/accuracy"]
    assert top.data.params["fit.epochs"] == "3"


def test_lineage_names_the_run_that_made_each_present_output(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{built / 'mlflow.db'}")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(built)
    output = CliRunner().invoke(cli.app, ["lineage"], catch_exceptions=False).stdout
    everything = {stage: named(stage, runs(built)) for stage in STAGES}
    assert [
        stage
        for stage, run in everything.items()
        if run.info.run_id not in output or tracking.when(run)[:16] not in output
    ] == []
    assert "…" not in output
