"""Fifty people promote fifty versions, each in a process of their own, at the same moment.

pytest -s -m benchmark tests/benchmarks/test_promotions.py
"""

import sys
import time
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "promotion"))

import moving
from registered import aliases, register, write_test_images
from test_moves import chain, client, past, production

from pipeline import config

N = 50


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
def test_fifty_processes_leave_one_production_at_any_moment_and_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config.load("name", "blur_faces", "preprocess", "promotion")
    monkeypatch.chdir(tmp_path)
    write_test_images(Path("data/preprocess/test"))
    for _ in range(N):
        register(tmp_path)
    reader, seen, start = client(), Counter[tuple[str, ...]](), time.monotonic()
    processes = [moving.start(cfg, str(number)) for number in range(1, N + 1)]
    while any(process.is_alive() for process in processes):
        seen[
            tuple(
                number for alias, number in aliases(reader).items() if alias.lower() == "production"
            )
        ] += 1
        time.sleep(0.05)
    links = chain(past())
    exits = Counter(process.exitcode for process in processes)
    print(
        f"\n{N} processes, {time.monotonic() - start:.0f} s: exit codes {dict(exits)}; "
        f"{len(past())} records, of which {len(links)} moved"
    )
    print(
        f"looked {seen.total()} times: productions seen at once "
        f"{sorted({len(now) for now in seen})}, {len(seen - Counter({(): 1}))} different ones"
    )
    assert exits == {0: N}
    assert sorted(int(after) for _, after in links) == list(range(1, N + 1))
    assert [before for before, _ in links] == [None, *(after for _, after in links[:-1])]
    assert production() == links[-1][1]
    assert {len(now) for now in seen if now} == {1}
