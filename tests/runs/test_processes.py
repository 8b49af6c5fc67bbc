"""Which process is which, and whether it still lives."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from holding import wait_until

from pipeline.runs import processes

ORPHAN = """
import os, time
while os.getppid() == int(os.environ["STARTED_BY"]):
    time.sleep(0.01)
from pipeline.runs import processes
processes.stop_with_rebuild()
"""


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that lives until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def test_a_living_process_has_not_ended(other: "subprocess.Popen[bytes]") -> None:
    assert not processes.ended(processes.name())
    assert not processes.ended(processes.name(psutil.Process(other.pid)))


def test_a_killed_process_has_ended_also_before_anybody_asks_for_it(
    other: "subprocess.Popen[bytes]",
) -> None:
    name = processes.name(psutil.Process(other.pid))
    other.kill()
    wait_until(lambda: processes.ended(name), "the end of a killed process that nobody waited for")
    other.wait()
    assert processes.ended(name)


def test_a_process_that_got_the_number_of_an_earlier_one_is_not_that_one() -> None:
    host, number, start = processes.name().rsplit("/", 2)
    assert processes.ended(f"{host}/{number}/{float(start) - 10:.2f}")


def test_of_other_hosts_nothing_is_known() -> None:
    assert not processes.ended("elsewhere/1/0.00")


def test_a_stage_whose_dvc_is_gone_before_it_looks_does_not_start(tmp_path: Path) -> None:
    """Nothing would ever stop it, and the next `dvc repro` would find the stage running."""
    message = tmp_path / "said"
    command = f"STARTED_BY=$$ DVC_STAGE=tune {sys.executable} -c '{ORPHAN}' 2> {message} &"
    subprocess.run(["sh", "-c", command], check=True)
    wait_until(
        lambda: message.exists() and "is gone; run `dvc repro` again" in message.read_text(),
        "the orphan's word",
    )


PROGRAM = """
import atexit, sys
from pipeline.runs import processes
class Slow:
    def __del__(self): print("taken apart")
keep = Slow()
with processes.without_teardown():
    atexit.register(print, "exit handlers ran")
    print("done")
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code", "left"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, "taken apart\n"),
        ("raise ValueError", 1, "taken apart\n"),
    ],
)
def test_a_program_that_succeeded_ends_without_taking_its_objects_apart(
    end: str, code: int, left: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert ended.stdout == f"done\nexit handlers ran\n{left}"
