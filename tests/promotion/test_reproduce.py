"""An old run, run again: a project of two short stages and the record of its run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMOKE
from omegaconf import OmegaConf
from programs import succeed
from repositories import commit_all, into_sub_folder, owned_by_another
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli, config
from pipeline.promotion import reproduce
from pipeline.repository import worktree
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
    return succeed(folder, folder, *command).stdout.strip()


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
    # DVC cannot write such a path into its configuration.
    folder = shutil.copytree(finished, tmp_path / "τα 'έργα' μου")
    monkeypatch.chdir(folder)
    return folder


def record(project: Path, dirty: str = "false", commit: str = "", **figures: float) -> str:
    """The runs that the two stages would have logged, with figures changed by name; returns the
    rebuild's id.
    """
    client = tracking.connect()
    experiment = client.get_experiment_by_name("fieldmark")
    assert experiment is not None
    lock = OmegaConf.load("dvc.lock")
    hashes = {stage: str(lock.stages[stage].outs[0].md5) for stage in ("ingest", "evaluate")}
    code = {
        "git.commit": commit or shell(project, "git", "rev-parse", "HEAD"),
        "git.dirty": dirty,
        "libraries": '{"torch": "0.1"}',
    }
    tags = {**code, "data.hash": hashes["ingest"]}
    rebuild = client.create_run(
        experiment.experiment_id, tags={**tags, "rebuild": "x"}, run_name="rebuild"
    ).info.run_id
    for stage, reads in (("ingest", {}), ("evaluate", {"in.ingest": hashes["ingest"]})):
        run = client.create_run(
            experiment.experiment_id,
            tags={**tags, **reads, "stage": stage, "mlflow.parentRunId": rebuild},
        )
        metrics = json.loads(Path("data", stage, "metrics.json").read_text())
        for name, value in {
            **metrics,
            **{k: v for k, v in figures.items() if k in metrics},
            "stage_seconds": 3.0,
        }.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_tag(run.info.run_id, "out.hash", hashes[stage])
        client.set_terminated(run.info.run_id)
    return str(rebuild)


def move_photos(project: Path, place: str) -> None:
    """The photos lie elsewhere, which params.yaml says, and everything was rebuilt from there."""
    target = project / place
    target.parent.mkdir(parents=True, exist_ok=True)
    (project / "data" / "images").rename(target)
    (project / "work.py").write_text(WORK.replace("data/images", place))
    (project / "params.yaml").write_text(SMOKE.replace("images: data/images", f"images: {place}"))
    commit_all(project)
    shell(project, "dvc", "repro", "-q")


def beside(project: Path) -> list[Path]:
    """What lies outside the project, two levels up."""
    return sorted(
        path for path in project.parent.parent.rglob("*") if project not in [path, *path.parents]
    )


def scratch(project: Path) -> list[Path]:
    """Scratch folders, and all that lies in them."""
    root = project / ".fieldmark" / "reproduce"
    return [path for path in root.rglob("*") if path.name != "all.lock"]


def worktrees(project: Path) -> int:
    return len(shell(project, "git", "worktree", "list").splitlines())


def test_a_run_is_reproduced_from_its_commit_whatever_the_folder_holds_today(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(project, **{"latency/p50_ms": 900.0})
    (project / "work.py").write_text("raise SystemExit('broken since')")
    assert reproduce.reproduce(config.load("name"), run)
    output = capsys.readouterr().out
    assert "every figure is reproduced" in output and "torch 0.1 then" in output
    assert worktrees(project) == 1
    assert scratch(project) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["../photos", "../../my photos/all", "data/../../photos"])
def test_photos_beside_the_project_are_copied_into_the_scratch_folder_alone(
    place: str, project: Path
) -> None:
    shutil.move(project, inner := project.parent / "a" / "project")
    os.chdir(inner)
    move_photos(inner, place)
    run = record(inner)
    shutil.rmtree(inner / ".dvc" / "cache")  # so they must be there
    before = beside(inner)
    assert reproduce.reproduce(config.load("name"), run)
    assert beside(inner) == before
    assert scratch(inner) == []


@pytest.mark.slow
def test_two_at_once_do_not_get_into_each_others_way(project: Path) -> None:
    """The first is held in its worktree, with the scratch folder of one that was killed beside it,
    while the second begins and ends.
    """
    run = record(project)
    commit = shell(project, "git", "rev-parse", "HEAD")
    kill = "import os; from pipeline.repository import worktree; "
    kill += f"held = worktree.checked_out('{commit}'); held.__enter__(); os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", kill], cwd=project, check=False)
    assert killed.returncode == 9 and worktrees(project) == 2
    with worktree.checked_out(commit) as first:
        assert worktrees(project) == 2
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "reproduce", run],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "every figure is reproduced" in done.stdout, done.stderr
        assert (first / "dvc.yaml").exists() and worktrees(project) == 2
    assert worktrees(project) == 1
    assert scratch(project) == []


def test_what_was_kept_stays_until_somebody_takes_it_away(project: Path) -> None:
    commit = shell(project, "git", "rev-parse", "HEAD")
    with worktree.checked_out(commit, keep=True) as left_behind:
        pass
    with worktree.checked_out(commit) as other:
        assert other != left_behind and (left_behind / "work.py").exists()
    assert (left_behind / "work.py").exists() and worktrees(project) == 2
    shutil.rmtree(left_behind.parent)
    with worktree.checked_out(commit):
        pass
    assert scratch(project) == [] and worktrees(project) == 1


@pytest.mark.slow
@pytest.mark.parametrize("place", ["data/images", "../photos"])
def test_a_run_is_reproduced_in_a_sub_folder_of_a_repository(
    place: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = into_sub_folder(project, monkeypatch)
    (inside.parent.parent / ".gitignore").write_text("photos/\n")
    if place != "data/images":
        move_photos(inside, place)
    shutil.rmtree(inside / ".dvc" / "cache")
    run = record(inside, commit=commit_all(inside, "as it ran"))
    (inside / "work.py").write_text("raise SystemExit('broken since')")
    assert reproduce.reproduce(config.load("name"), run)
    assert worktrees(inside) == 1
    assert scratch(inside) == []


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
    # No later rebuild may restore anything of it.
    assert sorted((project / ".dvc" / "cache").rglob("*")) == before


@pytest.mark.slow
def test_photos_that_came_back_from_production_are_among_those_of_today(project: Path) -> None:
    run = record(project)
    shutil.rmtree(project / ".dvc" / "cache")
    assert reproduce.reproduce(config.load("name"), run)


@pytest.mark.slow
def test_data_that_are_nowhere_are_said(project: Path) -> None:
    run = record(project)
    (project / "data" / "images" / "photo").write_bytes(b"another photo")
    shutil.rmtree(project / ".dvc" / "cache")
    with pytest.raises(FieldmarkError, match="neither those of today nor in DVC's cache"):
        reproduce.reproduce(config.load("name"), run)
    assert worktrees(project) == 1


def test_uncommitted_code_is_refused(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="uncommitted changes: its code is nowhere on record"):
        reproduce.reproduce(config.load("name"), record(project, dirty="true"))


def test_code_of_which_git_did_not_tell_is_refused_as_that(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="git did not say which code it was"):
        reproduce.reproduce(config.load("name"), record(project, dirty="unknown"))


def test_a_commit_without_the_project_is_refused(project: Path) -> None:
    (project / "dvc.yaml").unlink()
    without = commit_all(project)
    shell(project, "git", "checkout", "-q", "HEAD~")
    with pytest.raises(FieldmarkError, match="holds no dvc.yaml"), worktree.checked_out(without):
        pass
    assert worktrees(project) == 1


def test_where_git_does_not_answer_the_advice_is_not_to_fetch(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = record(project)
    owned_by_another(project, monkeypatch)
    with pytest.raises(FieldmarkError, match="safe.directory"):
        reproduce.reproduce(config.load("name"), run)


def test_a_commit_that_is_not_here_is_refused(project: Path) -> None:
    with pytest.raises(FieldmarkError, match="`git fetch` it first"):
        reproduce.reproduce(config.load("name"), record(project, commit="0123456789" * 4))


def test_a_stage_that_was_not_run_anew_is_found_by_what_it_made(project: Path) -> None:
    run = record(project)
    client = tracking.connect()
    experiment = client.get_experiment_by_name("fieldmark")
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
    assert reproduce.find(config.load("name"), stage.info.run_id).figures == {
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
