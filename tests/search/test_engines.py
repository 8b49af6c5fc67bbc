"""Where trials run changes nothing: the same ones, the same winner, whoever dies meanwhile."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from holding import wait_until
from toys import HOG, UNCHANGED, candidate, draw, samples

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Tune
from pipeline.search import engines, study, trial
from pipeline.search.engines import processes
from pipeline.search.trial import Budget, Data

LABELS = [0, 1] * 12
SPACE = {
    "fit.lr": {"low": 0.001, "high": 0.1, "log": True},
    "head.dropout": {"low": 0.0, "high": 0.5},
}
WINNER: Candidate = candidate(
    HOG, frozen=True, head={"kind": "mlp", "hidden": 8}, space=SPACE, epochs=4, weight_decay=0.1
)
SETTINGS = Tune.model_validate(
    {
        "trials": 9,
        "metric": "log_loss",
        "sampler": "tpe",
        "startup_trials": 3,
        "batch": 4,
        "pruner": "asha",
        "budget_minutes": None,
        "prune_after_epochs": 1,
        "threads": 1,
        "refit": "train",
        "refit_seeds": 1,
        "keep_untuned": "worse",
    }
)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project folder of one's own, in which studies are kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


def slow_square(marks: Path, item: int) -> int:
    """Leaves the number of its process, and waits; in the first process of each item for long."""
    mark = marks / f"{item}-{os.getpid()}"
    mark.touch()
    if item == 1 and len(list(marks.glob("1-*"))) == 1:
        time.sleep(600)
    return item * item


def fails(item: int) -> int:
    raise FieldmarkError(f"{item} is wrong")


def killed(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def surroundings(item: int) -> tuple[str | None, str]:
    return os.environ.get("FIELDMARK_CACHE"), os.getcwd()


def data() -> Data:
    learned = [0, 1] * 40
    watched = [0, 1] * 10
    return Data(samples(learned), samples(watched, images=draw(watched, seed=1)), "none", UNCHANGED)


def searched(folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> list[Any]:
    """The trials of a study of its own, with nothing remembered."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FIELDMARK_CACHE", str(folder / "cache"))
    monkeypatch.setenv("FIELDMARK_ENGINE", engine)
    objective = partial(trial.tried, data=data(), budget=Budget(), seed=0)
    done = study.search(WINNER, SETTINGS, objective, seed=0, about="toys")
    return [
        (each.number, each.state, each.value, each.params, each.intermediate_values)
        for each in done.trials
    ]


def test_several_processes_ask_the_same_and_get_the_same_to_the_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDMARK_PROCESSES", "2")
    here = searched(tmp_path / "here", monkeypatch, "local")
    there = searched(tmp_path / "there", monkeypatch, "processes")
    assert here == there
    assert len({each[1] for each in here}) == 2, "some are stopped, and some are not"


def test_a_killed_process_loses_no_item_and_counts_none_twice(tmp_path: Path) -> None:
    """Its item is computed by another; the other processes go on."""
    with processes.opened(3) as engine:
        results = engine(partial(slow_square, tmp_path), range(7))
        first = next(results)
        wait_until(lambda: len(list(tmp_path.glob("1-*"))) == 1, "item 1 has begun")
        (mark,) = tmp_path.glob("1-*")
        psutil.Process(int(mark.name.split("-")[1])).kill()
        assert [first, *results] == [0, 1, 4, 9, 16, 25, 36]
    began = sorted(int(mark.name.split("-")[0]) for mark in tmp_path.iterdir())
    assert began == [0, 1, 1, 2, 3, 4, 5, 6]


def test_an_error_is_raised_where_the_work_was_asked_for_and_no_process_stays() -> None:
    with (
        pytest.raises(FieldmarkError, match="^0 is wrong") as raised,
        processes.opened(2) as engine,
    ):
        list(engine(fails, range(3)))
    assert "in fails" in raised.value.__notes__[0]
    assert not [p for p in psutil.Process().children(recursive=True) if is_worker(p)]


def test_an_item_whose_process_always_dies_is_given_up_with_advice() -> None:
    with (
        pytest.raises(FieldmarkError, match="ended 3 times in the same trial.*FIELDMARK_PROCESSES"),
        processes.opened(1) as engine,
    ):
        list(engine(killed, range(1)))


def test_a_process_works_in_the_same_folder_and_memo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is copied from a server which was started elsewhere."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "own"))
    with processes.opened(1) as engine:
        assert list(engine(surroundings, [0])) == [(str(tmp_path / "own"), str(tmp_path))]


def is_worker(process: psutil.Process) -> bool:
    """Whether it is one of ours, and no server or tracker of multiprocessing's."""
    try:
        words = " ".join(process.cmdline())
        below = process.parent()
        return (
            "forkserver" in words
            and below is not None
            and "forkserver" in " ".join(below.cmdline())
        )
    except psutil.Error:
        return False


PARENT = """
import sys, time
from functools import partial
from pathlib import Path
sys.path[:0] = {path!r}
from test_engines import WINNER, SETTINGS, data
from pipeline.search import study, trial
from pipeline.search.trial import Budget
if __name__ == "__main__":
    def mark(ended):
        Path("ended").open("a").write(f"{{ended.number}} {{ended.value}}\\n")
        time.sleep({pause})
    objective = partial(trial.tried, data=data(), budget=Budget(), seed=0)
    study.search(WINNER, SETTINGS, objective, seed=0, about="toys", on_end=mark)
"""


@pytest.mark.slow
def test_a_study_whose_process_is_killed_goes_on_without_loss_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it started ends, too: it would take the cores from the run that follows."""
    whole = searched(tmp_path / "whole", monkeypatch, "local")
    folder = tmp_path / "killed"
    folder.mkdir()
    script = folder / "parent.py"
    environment = {
        **os.environ,
        "FIELDMARK_ENGINE": "processes",
        "FIELDMARK_PROCESSES": "2",
        "FIELDMARK_CACHE": str(folder / "cache"),
    }

    def start(pause: float) -> "subprocess.Popen[bytes]":
        script.write_text(PARENT.format(path=sys.path, pause=pause))
        return subprocess.Popen([sys.executable, str(script)], cwd=folder, env=environment)

    def ended() -> list[str]:
        file = folder / "ended"
        return file.read_text().splitlines() if file.exists() else []

    first = start(pause=0.3)
    wait_until(lambda: len(ended()) >= 3, "two trials of the first batch have ended")
    below = psutil.Process(first.pid).children(recursive=True)
    assert any(is_worker(process) for process in below)
    first.kill()
    first.wait()
    wait_until(lambda: not any(map(lives, below)), "what it started ends")
    (folder / "ended").unlink()
    assert start(pause=0).wait() == 0
    assert ended() == [f"{number} {value}" for number, _, value, *_ in whole]


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FIELDMARK_ENGINE", "cluster", "FIELDMARK_ENGINE is 'cluster'; it can be local, proc"),
        ("FIELDMARK_PROCESSES", "0", "FIELDMARK_PROCESSES is '0'; give a number above 0"),
        ("FIELDMARK_PROCESSES", "two", "FIELDMARK_PROCESSES is 'two'; give a number above 0"),
    ],
)
def test_a_wrong_variable_is_named(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(FieldmarkError, match=message):
        engines.opened(threads=1, work_s=0.0)


@pytest.mark.parametrize(
    ("threads", "work_s", "where"),
    [(1, 100.0, "elsewhere"), (1, 1.0, "here"), (2, 100.0, "here")],
    ids=["much work", "little work", "each trial takes all cores"],
)
def test_processes_start_only_where_they_pay(
    threads: int, work_s: float, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.compute.parallel.N_CORES", 2)
    with engines.opened(threads, work_s) as engine:
        (process,) = engine(own_process, [0])
    assert ("here" if process == os.getpid() else "elsewhere") == where


def own_process(item: int) -> int:
    return os.getpid()


RAY = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from functools import partial
import psutil, ray
from ray.cluster_utils import Cluster
from test_engines import WINNER, SETTINGS, data
from pipeline.search import study, trial
from pipeline.search.trial import Budget
if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1}})
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    places = []
    def mark(ended):
        Path("ended").open("a").write(f"{{ended.number}} {{ended.value}}\\n")
        if ended.number == 2 and {kill}:
            cluster.remove_node(other, allow_graceful=False)
    objective = partial(trial.tried, data=data(), budget=Budget(), seed=0)
    study.search(WINNER, SETTINGS, objective, seed=0, about="toys", on_end=mark)
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.cluster
@pytest.mark.parametrize("kill", [False, True], ids=["undisturbed", "a node killed"])
def test_a_ray_cluster_of_two_nodes_gets_the_same_to_the_digit(
    kill: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    whole = searched(tmp_path / "whole", monkeypatch, "local")
    folder = tmp_path / "ray"
    folder.mkdir()
    script = folder / "driver.py"
    script.write_text(RAY.format(path=sys.path, kill=kill))
    environment = {
        **os.environ,
        "FIELDMARK_ENGINE": "ray",
        "FIELDMARK_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ended = (folder / "ended").read_text().splitlines()
    assert ended == [f"{number} {value}" for number, _, value, *_ in whole]
