"""What the runner promises every stage: only what it declared, all or nothing, one at a time, and
no traceback for slips.
"""

import errno
import gc
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml
from conftest import copy_built, rebuild_environment
from holding import held
from mlflow.tracking import MlflowClient

from pipeline import FieldmarkError, cli, config, stages
from pipeline.runs import failures, runner

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

TOY = {
    "cmd": "fieldmark toy",
    "params": ["seed", "export"],
    "deps": ["data/ingest", "conf/export/${export.use}.yaml", "pipeline/stages/toy.py"],
    "outs": ["data/toy"],
}
RESUMES = """
    tried = scratch / "tried"
    resumed = tried.exists()
    tried.touch()
    if Path("fails").exists():
        raise RuntimeError("half way")
    return {"resumed": float(resumed)}
"""


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One run store for all tests here."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('store') / 'mlflow.db')}"


@pytest.fixture
def toy(project: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one stage more, whose code the test writes."""
    wiring = yaml.safe_load((project / "dvc.yaml").read_text())
    wiring["stages"]["toy"] = TOY
    (project / "dvc.yaml").write_text(yaml.safe_dump(wiring))
    (project / "data" / "ingest").mkdir()
    lock(project, "d0d0")
    monkeypatch.setattr(stages, "__path__", [str(project / "pipeline" / "stages")])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return project


def lock(project: Path, md5: str) -> None:
    """What DVC wrote when it made the input."""
    (project / "dvc.lock").write_text(
        yaml.safe_dump({"stages": {"ingest": {"outs": [{"path": "data/ingest", "md5": md5}]}}})
    )


def write_stage(project: Path, body: str, takes: str = "ingest") -> None:
    code = f"from pathlib import Path\n\n\ndef run(cfg, *, {takes}, out):\n    {body.strip()}\n"
    (project / "pipeline" / "stages" / "toy.py").write_text(code)
    sys.modules.pop("pipeline.stages.toy", None)
    importlib.invalidate_caches()


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def statuses(store: str) -> list[str]:
    """Of the newest stage and of its rebuild."""
    client = MlflowClient(store)
    (newest,) = client.search_runs(
        [client.get_experiment_by_name("fieldmark").experiment_id],
        "tags.stage = 'toy'",
        max_results=1,
    )
    return [newest.info.status, client.get_run(newest.data.tags["mlflow.parentRunId"]).info.status]


def test_a_stage_that_asks_for_an_undeclared_section_fails(toy: Path, store: str) -> None:
    write_stage(toy, 'return {"trials": cfg.tune.trials}')
    with pytest.raises(AttributeError, match="'tune' is not among the stage's params in dvc.yaml"):
        runner.run("toy")
    assert statuses(store) == ["FAILED", "FAILED"]


def test_rebuilds_differ_in_what_mlflows_list_shows_of_their_names(toy: Path, store: str) -> None:
    write_stage(toy, "return {}")
    runner.run("toy")
    client = MlflowClient(store)
    (top,) = client.search_runs(
        [client.get_experiment_by_name("fieldmark").experiment_id],
        "tags.rebuild LIKE '%'",
        max_results=1,
    )
    assert re.match(r"\d\d-\d\d \d\d:\d\d:\d\d", top.info.run_name)


def test_a_stage_has_its_garbage_collected(toy: Path) -> None:
    """The command puts that off while it imports."""
    write_stage(toy, 'import gc\n    return {"collected": float(gc.isenabled())}')
    gc.disable()
    runner.run("toy")
    assert json.loads((toy / "data" / "toy" / "metrics.json").read_text()) == {"collected": 1}


def test_a_stage_that_asks_for_an_undeclared_folder_fails(toy: Path) -> None:
    (toy / "data" / "tune").mkdir()
    write_stage(toy, "return {}", takes="ingest, tune")
    with pytest.raises(TypeError, match="'tune'"):
        runner.run("toy")


def test_a_stage_gets_its_folder_by_name_and_only_its_sections(toy: Path, store: str) -> None:
    write_stage(
        toy, '(out / "seen").write_text(f"{ingest} {sorted(cfg.plain())}"); return {"n": 2.0}'
    )
    runner.run("toy")
    assert files(toy / "data" / "toy") == {
        "seen": "data/ingest ['export', 'seed']",
        "metrics.json": '{\n "n": 2.0\n}\n',
    }
    assert statuses(store) == ["FINISHED", "FINISHED"]


def test_what_fails_half_way_leaves_the_old_output_as_it_was(toy: Path, store: str) -> None:
    (toy / "data" / "toy").mkdir()
    (toy / "data" / "toy" / "old").write_text("whole")
    write_stage(toy, '(out / "new").write_text("half"); raise RuntimeError("half way")')
    with pytest.raises(RuntimeError, match="half way"):
        runner.run("toy")
    assert files(toy / "data" / "toy") == {"old": "whole"}
    assert statuses(store) == ["FAILED", "FAILED"]


def test_a_new_output_takes_the_place_of_all_of_the_old_one(toy: Path) -> None:
    (toy / "data" / "toy").mkdir()
    (toy / "data" / "toy" / "old").write_text("whole")
    write_stage(toy, '(out / "new").write_text("whole"); return {}')
    runner.run("toy")
    assert files(toy / "data" / "toy") == {"new": "whole", "metrics.json": "{}\n"}


def nothing(_: Path) -> None: ...


def another_seed(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 1"))


def another_default(project: Path) -> None:
    conf = project / "conf" / "export" / "default.yaml"
    conf.write_text(conf.read_text().replace("opset: 18", "opset: 19"))


def other_data(project: Path) -> None:
    lock(project, "d1d1")


def other_code(project: Path) -> None:
    write_stage(project, RESUMES + "    # as good as another algorithm\n", takes="ingest, scratch")


def a_section_of_another_stage(project: Path) -> None:
    conf = project / "conf" / "tune" / "default.yaml"
    conf.write_text(conf.read_text().replace("trials: 12", "trials: 13"))


def a_commit(project: Path) -> None:
    commit = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "commit",
        "-q",
        "-a",
        "-m",
        "in between",
    ]
    subprocess.run(commit, cwd=project, check=True)


@pytest.mark.parametrize(
    ("change", "resumed"),
    [
        (nothing, 1.0),
        (a_section_of_another_stage, 1.0),
        (a_commit, 1.0),
        (another_seed, 0.0),
        (another_default, 0.0),
        (other_data, 0.0),
        (other_code, 0.0),
    ],
)
def test_a_stage_goes_on_where_it_stopped_unless_something_it_uses_is_not_the_same(
    change: Any, resumed: float, toy: Path
) -> None:
    write_stage(toy, RESUMES, takes="ingest, scratch")
    (toy / "fails").touch()
    with pytest.raises(RuntimeError, match="half way"):
        runner.run("toy")
    (toy / "fails").unlink()
    change(toy)
    runner.run("toy")
    assert json.loads((toy / "data" / "toy" / "metrics.json").read_text()) == {"resumed": resumed}
    assert not (toy / ".fieldmark" / "scratch" / "toy").exists()


def test_what_the_user_can_put_right_is_one_line_without_a_traceback(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    # Its configuration has been checked already, which would take seconds.
    folder = copy_built(built, tmp_path / "project")
    shutil.rmtree(folder / "data" / "preprocess")
    done = programs.run(folder, cache, "fieldmark", "tune")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr.startswith("fieldmark: data/preprocess/dev is missing; ")
        and "`dvc repro`" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_second_process_of_a_stage_is_told_so_and_a_kill_of_the_first_keeps_the_old_output(
    built: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_built(built, tmp_path / "project")
    before = (folder / "data" / "ingest" / "quarantine.csv").read_bytes()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(runner, "PATIENCE_S", 0.1)
    with (
        held(
            "fieldmark ingest",
            folder,
            rebuild_environment(folder, cache),
            "partial/ingest/quarantine.csv",
        ),
        pytest.raises(
            FieldmarkError,
            match="another process is running ingest in this folder; wait for it or stop it",
        ),
    ):
        runner.run("ingest")
    assert (folder / "data" / "ingest" / "quarantine.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("number", "verb"), [(errno.ENOSPC, "write"), (errno.EROFS, "read or write")]
)
def test_a_full_or_read_only_disk_is_said_in_one_line(
    number: int, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(number, os.strerror(number), "data/ingest")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (
        2,
        f"fieldmark: cannot {verb} data/ingest: {os.strerror(number)}; {failures.ADVICE[number]}\n",
    )


@pytest.mark.parametrize("place", ["data/photos", "data/photos/", "data//photos", "./data/photos"])
@pytest.mark.usefixtures("project")
def test_a_folder_of_images_below_data_is_given_as_images_however_it_is_written(place: str) -> None:
    Path("data/photos").mkdir()
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump({**params, "images": place}))
    inputs = runner._inputs(config.wiring()["ingest"], config.load())
    assert inputs == {"images": Path("data/photos"), "feedback": Path("data/feedback")}
