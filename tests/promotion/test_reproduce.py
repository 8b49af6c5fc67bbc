"""An old run, run again: a project of two short stages and the record of its run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, SMOKE, rebuild_environment
from omegaconf import OmegaConf
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config
from pipeline.promotion import reproduce
from pipeline.runs import tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

WORK = """
import json, sys
from pathlib import Path
stage, out = sys.argv[1], Path("data", sys.argv[1])
out.mkdir(parents=True)
if stage == "ingest":
    (out / "bytes").write_bytes(Path("data/images/photo").read_bytes() + Path("data/feedback/one.png").read_bytes())
figures = {"ingest": {"n_images": 1.0}, "evaluate": {"test/sum": float(sum(Path("data/ingest/bytes").read_bytes())), "latency/p50_ms": 1.0}}
(out / "metrics.json").write_text(json.dumps(figures[stage]))
"""
DVC_YAML = """
stages:
  ingest: {cmd: python work.py ingest, deps: [work.py, "${images}"], outs: [data/ingest]}
  evaluate: {cmd: python work.py evaluate, deps: [work.py, data/ingest], outs: [data/evaluate]}
"""


def shell(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=rebuild_environment(folder, folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after `dvc repro` at its only commit; the photo is not in git."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "params.yaml").write_text(SMOKE)
    (folder / "work.py").write_text(WORK)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / ".gitignore").write_text("/data\n/.fieldmark\n")
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "data" / "images" / "photo").write_bytes(b"a photo")
    (folder / "data" / "feedback").mkdir()
    (folder / "data" / "feedback" / "one.png").write_bytes(b"\0")
    shell(folder, "git", "init", "-q")
    shell(folder, "dvc", "init", "-q")
    shell(folder, "git", "add", "-A")
    shell(
        folder,
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-q",
        "-m",
        "all",
    )
    shell(folder, "dvc", "repro", "-q")
    return folder


@pytest.fixture
def project(
    finished: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    folder = shutil.copytree(
        finished, tmp_path / "τα 'έργα' μου"
    )  # DVC cannot write such a path into its configuration
    monkeypatch.chdir(folder)
    return folder


def record(project: Path, dirty: str = "false", commit: str = "", **figures: float) -> str:
    """The runs that the two stages would have logged, with figures changed by name; returns the
    rebuild's id.
    """
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    lock = OmegaConf.load("dvc.lock")
    made = {stage: str(lock.stages[stage].outs[0].md5) for stage in ("ingest", "evaluate")}
    code = {
        "git.commit": commit or shell(project, "git", "rev-parse", "HEAD"),
        "git.dirty": dirty,
        "libraries": '{"torch": "0.1"}',
    }
    tags = {**code, "data.hash": made["ingest"]}
    rebuild = client.create_run(
        experiment.experiment_id, tags={**tags, "rebuild": "x"}, run_name="rebuild"
    ).info.run_id
    for stage, reads in (("ingest", {}), ("evaluate", {"in.ingest": made["ingest"]})):
        run = client.create_run(
            experiment.experiment_id,
            tags={**tags, **reads, "stage": stage, "mlflow.parentRunId": rebuild},
        )
        said = json.loads(Path("data", stage, "metrics.json").read_text())
        for name, value in {
            **said,
            **{k: v for k, v in figures.items() if k in said},
            "stage_seconds": 3.0,
        }.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_tag(run.info.run_id, "out.hash", made[stage])
        client.set_terminated(run.info.run_id)
    return str(rebuild)


def worktrees(project: Path) -> int:
    return len(shell(project, "git", "worktree", "list").splitlines())


def test_a_run_is_reproduced_from_its_commit_whatever_the_folder_holds_today(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(project, **{"latency/p50_ms": 900.0})
    (project / "work.py").write_text("raise SystemExit('broken since')")
    assert reproduce.reproduce(config.load("export"), run)
    said = capsys.readouterr().out
    assert "every figure is reproduced" in said and "torch 0.1 then" in said
    assert worktrees(project) == 1


@pytest.mark.slow
def test_photos_changed_since_come_from_dvcs_cache_and_a_difference_is_an_exit_code(
    project: Path,
) -> None:
    run = record(project, **{"test/sum": 1.0})
    (project / "data" / "images" / "photo").write_bytes(b"another photo")
    before = sorted((project / ".dvc" / "cache").rglob("*"))
    done = CliRunner().invoke(cli.app, ["reproduce", run, "--keep"])
    assert done.exit_code == 1
    assert f"test/sum 1 {sum(b'a photo')} different" in " ".join(done.stdout.split())
    assert "1 of 3 figures differ" in done.stdout
    assert worktrees(project) == 2
    assert (
        sorted((project / ".dvc" / "cache").rglob("*")) == before
    )  # nothing of it may be restored by a later rebuild


@pytest.mark.slow
def test_photos_that_came_back_from_production_are_among_those_of_today(project: Path) -> None:
    run = record(project)
    shutil.rmtree(project / ".dvc" / "cache")
    assert reproduce.reproduce(config.load("export"), run)


@pytest.mark.slow
def test_data_that_are_nowhere_are_said(project: Path) -> None:
    run = record(project)
    (project / "data" / "images" / "photo").write_bytes(b"another photo")
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(FieldmarkError, match="neither those of today nor in DVC's cache"):
        reproduce.reproduce(config.load("export"), run)
    assert worktrees(project) == 1


def test_uncommitted_code_is_refused(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="uncommitted changes: its code is nowhere on record"):
        reproduce.reproduce(config.load("export"), record(project, dirty="true"))


def test_a_commit_that_is_not_here_is_refused(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="`git fetch` it first"):
        reproduce.reproduce(config.load("export"), record(project, commit="0123456789" * 4))


def test_a_stage_that_was_not_run_anew_is_found_by_what_it_made(project: Path) -> None:
    run = record(project)
    client = tracking.connect()
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    above = client.get_run(run)
    last = next(
        r
        for r in client.search_runs([experiment.experiment_id])
        if r.data.tags.get("stage") == "evaluate"
    )
    again = client.create_run(experiment.experiment_id, tags={**above.data.tags, "rebuild": "y"})
    tags = {**last.data.tags, "mlflow.parentRunId": again.info.run_id}
    stage = client.create_run(experiment.experiment_id, tags=tags)
    client.log_metric(stage.info.run_id, "test/sum", 5.0)
    client.log_metric(stage.info.run_id, "stage_seconds", 7.0)  # which the one before it has, too
    client.set_terminated(stage.info.run_id)
    assert reproduce.find(config.load("export"), stage.info.run_id).figures == {
        "test/sum": 5.0,
        "n_images": 1.0,
        "stage_seconds": 7.0,
    }


@pytest.mark.parametrize(
    ("then", "now", "equal"),
    [(1.0, 1.0 + 1e-9, True), (1.0, 1.001, False), (float("nan"), float("nan"), True)],
)
def test_figures_are_equal_up_to_rounding(then: float, now: float, equal: bool) -> None:
    assert [row.equal for row in reproduce.compare({"a": then}, {"a": now})] == [equal]


def test_a_figure_that_was_not_on_record_differs() -> None:
    assert [row.equal for row in reproduce.compare({}, {"a": 1.0})] == [False]
