"""Windows: each image is in one window of a size, each window is tested once, whoever looks and
however often.
"""

import time
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from traffic import MONITOR, records, rows

from pipeline.monitor import reading, tables, windows
from pipeline.monitor.records import Recorder

DRIFT = MONITOR.drift


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return tables.connect(f"sqlite:///{tmp_path / 'store.db'}")


def send(engine: sa.Engine, of: pd.DataFrame, **how: object) -> None:
    recorder = Recorder(str(engine.url), 10_000)
    for record in records(of, **how):  # type: ignore[arg-type]
        recorder.put(record)
    recorder.close(30.0)


def found(engine: sa.Engine) -> pd.DataFrame:
    with engine.connect() as connection:
        return reading.finished(connection, 0.0, 1e12)


def test_looking_again_tests_nothing_again(engine: sa.Engine) -> None:
    reading.store_reference(engine, "1", rows(200, 0))
    send(engine, rows(260, 1), start=1000.0, every_s=100.0)
    assert windows.update(engine, DRIFT) == 5 + 1  # of 50 (each takes more than an hour) and of 200
    before = found(engine)
    assert before.query("size == 50")[["start", "end"]].to_numpy().tolist() == [
        [1000.0 + 5000 * i, 5900.0 + 5000 * i] for i in range(5)
    ]
    assert windows.update(engine, DRIFT) == 0
    send(engine, rows(60, 2), start=30_000.0, every_s=100.0)
    assert windows.update(engine, DRIFT) == 1
    after = found(engine)
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert (after["p"].map(lambda p: min(p.values())) > after["level"]).all()


def test_dense_traffic_is_tested_as_often_as_the_false_alarm_rate_allows(engine: sa.Engine) -> None:
    reading.store_reference(engine, "1", rows(100, 0))
    send(engine, rows(1000, 1), start=1000.0, every_s=7.2)  # two hours
    windows.update(engine, DRIFT)
    assert found(engine).groupby("size").size().to_dict() == {50: 2, 200: 2}
    assert windows.level(DRIFT) * 24 * 2 == pytest.approx(DRIFT.alpha_per_day)


def test_a_clock_that_was_years_ahead_does_not_end_the_tests(engine: sa.Engine) -> None:
    reading.store_reference(engine, "1", rows(200, 0))
    send(engine, rows(50, 1), start=time.time() + 1e8)
    assert windows.update(engine, DRIFT) == 1
    send(engine, rows(50, 2), start=time.time() - 60)
    assert windows.update(engine, DRIFT) == 1
    send(engine, rows(50, 3), start=time.time())
    assert windows.update(engine, DRIFT) == 0  # as often as ever


def test_a_window_holds_whole_answers_of_one_version(engine: sa.Engine) -> None:
    for version in ("1", "2"):
        reading.store_reference(engine, version, rows(100, 0))
    send(engine, rows(40, 1), start=1000.0, version="1", every_s=100.0)
    send(engine, rows(60, 2, brighter=3), start=1000.0, version="2", every_s=100.0)
    recorder = Recorder(str(engine.url), 10_000)
    for _ in range(30):
        recorder.put({"version": "1", "status": 503, "time": 2000.0})
    recorder.close(30.0)
    assert windows.update(engine, DRIFT) == 1
    only = found(engine).iloc[0]
    assert (only["version"], only["size"], only["p"]["brightness"] <= only["level"]) == (
        "2",
        50,
        True,
    )


def test_a_version_without_reference_is_left_alone(engine: sa.Engine) -> None:
    send(engine, rows(60, 1), start=1000.0)
    assert windows.update(engine, DRIFT) == 0


def test_images_that_change_in_the_middle_are_found_in_the_window_after(engine: sa.Engine) -> None:
    reading.store_reference(engine, "1", rows(200, 0))
    send(engine, pd.concat([rows(100, 1), rows(100, 2, brighter=1.5)]), start=1000.0, every_s=100.0)
    windows.update(engine, DRIFT)
    small = found(engine).query("size == 50")
    assert (small["p"].map(lambda p: p["brightness"]) <= small["level"]).tolist() == [
        False,
        False,
        True,
        True,
    ]
