"""What the stages of a rebuild cost when they have almost nothing to do: forty photos, all that can
be remembered is. Seconds of wall clock and of CPU, stage by stage.

    pytest -m benchmark tests/benchmarks/test_starts.py -s
"""

import resource
import time
from pathlib import Path

import pytest
from conftest import smoke_project
from programs import succeed

from pipeline import config

pytestmark = pytest.mark.benchmark


def test_the_starts_of_all_stages_together(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = smoke_project(tmp_path / "project")
    succeed(folder, cache, "dvc", "repro")
    monkeypatch.chdir(folder)
    rows = []
    for stage, node in config.wiring().items():
        before, start = _cpu_seconds(), time.perf_counter()
        succeed(folder, cache, *node["cmd"].split())
        rows.append((stage, time.perf_counter() - start, _cpu_seconds() - before))
    rows.append(("together", *(sum(row[i] for row in rows) for i in (1, 2))))
    print(
        "\n".join(
            ["", "stage          wall s  CPU s"] + [f"{s:13} {w:7.1f} {c:6.1f}" for s, w, c in rows]
        )
    )
    assert rows[-1][1] > 0


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
