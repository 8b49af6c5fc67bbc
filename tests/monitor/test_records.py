"""The recorder never stands in the way of a request, and says what it lost when its store fails."""

import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from holding import LONG, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from traffic import records, rows

from pipeline import FieldmarkError
from pipeline.monitor import reading, tables
from pipeline.monitor import records as recording
from pipeline.monitor.records import Recorder


def address(folder: Path) -> str:
    return f"sqlite:///{folder / 'monitor' / 'store.db'}"


def count(url: str) -> int:
    engine = tables.connect(url)
    tables.ready(engine)
    with engine.connect() as connection:
        return int(
            connection.execute(
                sa.select(sa.func.count()).select_from(tables.predictions)
            ).scalar_one()
        )


def test_what_was_put_is_in_the_store_with_its_label(tmp_path: Path) -> None:
    recorder = Recorder(address(tmp_path), 100)
    sent = list(records(rows(3, 0), start=1000))
    assert recorder.label(sent[1]["id"], "owl")  # feedback may overtake the record
    assert all(recorder.put(record) for record in sent)
    recorder.label(sent[1]["id"], "cat")
    recorder.close(LONG)
    with tables.connect(address(tmp_path)).connect() as connection:
        found = reading.recent(connection, 0.0, 2000.0)
        window = reading.next_window(connection, "1", 3, after=0, not_before=0.0)
    assert found["predicted"].tolist() == [record["class"] for record in sent]
    assert found["label"].tolist()[1] == "cat" and found["label"].isna().tolist() == [
        True,
        False,
        True,
    ]
    np.testing.assert_array_equal(
        window[reading.SKETCHES], np.array([record["sketch"] for record in sent], np.float32)
    )
    assert recorder.lost == 0


def test_records_that_come_one_by_one_share_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = list[int](), Recorder._write

    def noting(recorder: Recorder, rows: Any, *others: Any) -> bool:
        written.append(len(rows))
        return write(recorder, rows, *others)

    monkeypatch.setattr(Recorder, "_write", noting)
    recorder, start = Recorder(address(tmp_path), 1000), time.monotonic()
    for record in records(rows(200, 0), start=1000):
        recorder.put(record)
        time.sleep(0.003)
    recorder.close(LONG)
    pauses = (time.monotonic() - start) / recording.PAUSE_S
    assert sum(written) == 200 and len(written) <= pauses + 2


def test_a_flood_of_refusals_takes_a_row_a_minute_and_status_and_displaces_no_record(
    tmp_path: Path,
) -> None:
    recorder = Recorder(address(tmp_path), 100, queue_size=10)
    sent = next(records(rows(1, 0), start=time.time()))
    for _ in range(3000):
        recorder.refuse("1", 401)
    recorder.refuse("1", 413)
    assert recorder.put(sent)
    recorder.close(LONG)
    with tables.connect(address(tmp_path)).connect() as connection:
        found = reading.recent(connection, sent["time"] - 120, sent["time"] + 120)
    assert found.groupby("status")["n"].sum().to_dict() == {200: 1, 401: 3000, 413: 1}
    assert len(found) <= 5 and recorder.lost == 0  # a minute may have ended in between


def test_no_more_rows_are_kept_than_allowed_and_the_oldest_go(tmp_path: Path) -> None:
    recorder = Recorder(address(tmp_path), 40)
    for i in range(3000):
        recorder.put({"time": float(i + 1), "status": 200, "version": "1"})
    recorder.close(LONG)
    with tables.connect(address(tmp_path)).connect() as connection:
        assert reading.recent(connection, 0.0, 4000.0)["time"].tolist() == [
            float(i) for i in range(2961, 3001)
        ]


json_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.lists(st.floats(), max_size=20)
)
wild = st.dictionaries(
    st.sampled_from(
        [
            "id",
            "time",
            "version",
            "status",
            "class",
            "confidence",
            "ood",
            "sketch",
            "latency_ms",
            "other",
        ]
    ),
    json_values,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    return address(tmp_path_factory.mktemp("shared"))


@settings(max_examples=25)
@given(st.lists(wild, max_size=12))
def test_whatever_is_put_is_either_stored_or_counted_as_lost(
    shared: str, items: list[dict[str, Any]]
) -> None:
    recorder = Recorder(shared, 1_000_000)
    before = count(shared)
    for item in items:
        recorder.put({**item, "id": ""})  # a new one for each
    recorder.close(LONG)
    assert count(shared) - before + recorder.lost == len(items)


@settings(max_examples=20)
@given(size=st.integers(1, 50), threads=st.integers(1, 4), each=st.integers(0, 60))
def test_a_full_queue_drops_and_counts_and_waits_for_nobody(
    tmp_path_factory: Any, size: int, threads: int, each: int
) -> None:
    folder = tmp_path_factory.mktemp("full")
    (folder / "monitor").write_text("a file where the folder should be: the store cannot be opened")
    recorder = Recorder(address(folder), 100, queue_size=size, retry_s=60.0)
    taken: list[bool] = []
    workers = [
        threading.Thread(target=lambda: taken.extend(recorder.put({}) for _ in range(each)))
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert recorder.lost == taken.count(False)
    assert recorder.waiting <= size
    recorder.close(LONG)
    assert recorder.lost == len(taken) == threads * each
    assert not recorder.put({})


def test_a_locked_store_is_waited_for_off_the_request_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BUSY_S", 0.01)
    url = address(tmp_path)
    tables.ready(tables.connect(url))
    blocker = sqlite3.connect(tmp_path / "monitor" / "store.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    recorder = Recorder(url, 100, retry_s=0.01)
    assert recorder.put({"id": "a"})
    wait_until(lambda: recorder.away, "the store is away")
    blocker.execute("COMMIT")
    blocker.close()
    recorder.close(LONG)
    assert (count(url), recorder.lost, recorder.away) == (1, 0, False)


def test_a_store_deleted_in_the_middle_is_made_anew(tmp_path: Path) -> None:
    recorder = Recorder(address(tmp_path), 100, retry_s=0.01)
    recorder.put({"id": "a"})
    wait_until(lambda: count(address(tmp_path)) == 1, "written")
    shutil.rmtree(tmp_path / "monitor")
    recorder.put({"id": "b"})
    recorder.close(LONG)
    assert (count(address(tmp_path)), recorder.lost) == (1, 0)


def test_a_full_disk_costs_records_that_are_counted_in_the_store_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, room = address(tmp_path), threading.Event()
    real = tables._tune

    def small(connection: Any, record: Any) -> None:
        real(connection, record)
        if not room.is_set():
            # SQLite answers: database or disk is full
            connection.execute("PRAGMA max_page_count = 1")

    monkeypatch.setattr(tables, "_tune", small)
    told: list[int] = []
    recorder = Recorder(url, 1000, queue_size=10, retry_s=0.01, on_loss=told.append)
    recorder.put({"id": "first"})
    wait_until(lambda: recorder.away, "the store is away")
    assert [recorder.put({}) for _ in range(25)].count(False) == 15 == sum(told)
    room.set()
    recorder.close(LONG)
    assert (count(url), recorder.lost) == (11, 15)
    with tables.connect(url).connect() as connection:
        assert reading.lost(connection, 0.0, time.time() + 1) == 15


def test_what_is_no_database_is_neither_overwritten_nor_an_error(tmp_path: Path) -> None:
    file = tmp_path / "monitor" / "store.db"
    file.parent.mkdir()
    file.write_bytes(b"somebody's letter, long enough to be no empty file" * 100)
    recorder = Recorder(address(tmp_path), 100, retry_s=0.01)
    recorder.put({"id": "a"})
    wait_until(lambda: recorder.away, "the store is away")
    recorder.close(LONG)
    assert recorder.lost == 1
    assert file.read_bytes().startswith(b"somebody's letter")


def test_two_processes_worth_of_recorders_share_a_store(tmp_path: Path) -> None:
    url = address(tmp_path)
    recorders = [Recorder(url, 1000, retry_s=0.01) for _ in range(3)]
    for i, recorder in enumerate(recorders):
        for k in range(50):
            recorder.put({"id": f"{i}-{k}"})
    for recorder in recorders:
        recorder.close(LONG)
    assert (count(url), sum(recorder.lost for recorder in recorders)) == (150, 0)


@pytest.mark.parametrize("url", ["nonsense", "oracle7://x/y", "sqlite:/x"])
def test_an_address_of_no_store_is_said_in_one_line(url: str) -> None:
    with pytest.raises(FieldmarkError, match="FIELDMARK_MONITOR_URL: .*write sqlite:///FILE"):
        Recorder(url, 10)


def test_a_record_holds_no_image() -> None:
    assert set(recording.row({"pixels": b"x", "name": "me.jpg", "status": 200})) <= {
        c.key for c in tables.predictions.c
    }


@pytest.mark.skipif(
    "FIELDMARK_TEST_POSTGRES" not in os.environ,
    reason="name an empty database in FIELDMARK_TEST_POSTGRES",
)
def test_postgresql_holds_the_same(tmp_path: Path) -> None:
    url = os.environ["FIELDMARK_TEST_POSTGRES"]
    engine = tables.connect(url)
    tables.metadata.drop_all(engine)
    recorder = Recorder(url, 30)
    sent = list(records(rows(80, 0), start=1000))
    for record in [*sent, sent[-1]]:  # written twice, kept once
        recorder.put({**record, "class": "a\0b\ud800"})
        recorder.label(record["id"], "owl")
        recorder.label(record["id"], "cat")
    for _ in range(2):  # added up where they are there already
        recorder.refuse("1", 429)
        time.sleep(1.5)
    recorder.close(LONG)
    reading.store_reference(engine, "1", rows(1200, 1))
    reading.store_reference(engine, "1", rows(60, 1))
    with engine.connect() as connection:
        found, source = reading.recent(connection, 0.0, 5000.0), reading.reference(connection, "1")
        refused = reading.recent(connection, time.time() - 300, time.time())
    engine.dispose()
    assert recorder.lost == 0 and 29 <= len(found) <= 30
    assert set(found["label"]) == {"cat"} and set(found["predicted"]) == {"ab?"}
    assert len(source) == 60
    assert set(refused["status"]) == {429} and refused["n"].sum() == 2
