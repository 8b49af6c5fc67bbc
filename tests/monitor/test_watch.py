"""What people and machines are told: the command, its exit code, the log, the page and the
gauges.
"""

import json
import logging
import re
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from holding import LONG, wait_until
from prometheus_client import CollectorRegistry, generate_latest
from traffic import MONITOR, records, rows
from typer.testing import CliRunner

from pipeline import FieldmarkError, cli
from pipeline.monitor import gauges, page, reading, tables
from pipeline.monitor.records import Recorder
from pipeline.monitor.watch import Watcher


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An hour of version 1, as in validation; then an hour of version 2, whose images are too
    bright.
    """
    url = f"sqlite:///{tmp_path_factory.mktemp('watched') / 'store.db'}"
    recorder = Recorder(url, 10_000)
    for version, brighter in (("1", 0.0), ("2", 2.0)):
        reading.store_reference(tables.connect(url), version, rows(200, 0))
        start = time.time() - 3600 * (3 - int(version)) - 60
        for record in records(
            rows(120, int(version), brighter=brighter), start=start, version=version, every_s=30.0
        ):
            recorder.put(record)
    recorder.close(30.0)
    return url


@pytest.fixture
def watcher(store: str) -> Watcher:
    watcher = Watcher(store, MONITOR)
    watcher.refresh()
    return watcher


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(f"sqlite:///{tmp_path / 'other.db'}", 10)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["monitor", *arguments], env={"COLUMNS": "80"})
    if isinstance(done.exception, FieldmarkError):
        raise done.exception
    return done.exit_code, done.output


def test_the_command_shows_all_on_80_columns_and_exits_with_1_on_an_alert(
    store: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tables.VARIABLE, store)
    code, text = run("--since", "3h")
    assert code == 1
    assert max(map(len, text.splitlines())) <= 80
    assert "alert: drift, version 2: unlike the validation images: brightness" in " ".join(
        text.split()
    )
    assert "version 1:" not in text
    seen = json.loads(run("--json")[1])
    assert [version["n"] for version in seen["summary"]["versions"]] == [120, 120]
    assert [alert["kind"] for alert in seen["alerts"]] == ["drift"]


def test_without_alert_the_command_exits_with_0(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tables.VARIABLE, f"sqlite:///{tmp_path / 'new' / 'store.db'}")
    code, text = run()
    assert code == 0 and "No prediction is on record" in text and "no alert" in text


def test_what_the_command_cannot_do_is_said_in_one_line(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        FieldmarkError, match="--since: 'yesterday' is not a length of time; write for example 30m"
    ):
        run("--since", "yesterday")
    (tmp_path / "letter").write_bytes(b"no database, but some letter" * 100)
    monkeypatch.setenv(tables.VARIABLE, f"sqlite:///{tmp_path / 'letter'}")
    with pytest.raises(FieldmarkError, match="the monitor store cannot be read: .*not a database"):
        run()


def test_an_alert_is_logged_once(store: str, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher(store, MONITOR)
    with caplog.at_level(logging.WARNING):
        watcher.refresh()
        watcher.refresh()
    assert [text.split(":")[1] for text in caplog.messages] == [" drift, version 2"]


def test_the_page_tells_the_alert_and_loads_nothing(watcher: Watcher, recorder: Recorder) -> None:
    app = FastAPI()
    app.include_router(page.router(watcher, recorder))
    answer = TestClient(app).get("/monitor")
    assert answer.status_code == 200
    assert "Unlike the validation images: brightness of the images" in answer.text
    # a small p-value without an exponent
    assert "&lt; 0.001" in answer.text and "e-0" not in answer.text
    assert answer.text.index("Version 2") < answer.text.index("Version 1")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not [
        word
        for word in ("http://", "https://", "src=", "url(", "<script", "None", "nan")
        if word in answer.text
    ]


def test_the_curves_can_be_read_as_numbers(watcher: Watcher) -> None:
    assert watcher.last is not None
    shown = page.render(watcher.last, every_s=60.0, project="fieldmark")
    for version in watcher.last.summary.versions:
        table = (
            shown.partition(f"<h2>Version {version.version}<")[2]
            .partition("<details>")[2]
            .partition("</details>")[0]
        )
        cells = [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in table.split("<tr>")[2:]]
        assert [(int(n), int(failed)) for _, n, failed, *_ in cells] == [
            (part.n, part.failed) for part in version.over_time
        ]
        assert [confidence == "–" for *_, confidence in cells] == [
            part.n == 0 for part in version.over_time
        ]
        assert {median for _, n, _, median, *_ in cells if n != "0"} <= {
            f"{ms / 2:.3g}\u202fms" for ms in range(40, 60)
        }


def test_the_page_shows_a_prediction_that_came_a_moment_ago(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    seldom = MONITOR.model_copy(update={"every_s": 3600.0})
    watcher, recorder, app = Watcher(url, seldom), Recorder(url, 10), FastAPI()
    app.include_router(page.router(watcher, recorder))
    watcher.start()
    wait_until(lambda: watcher.last is not None, "the first look")
    recorder.put({"version": "3", "class": "cat", "confidence": 0.9})
    client = TestClient(app)
    wait_until(lambda: "<h2>Version 3<" in client.get("/monitor").text, "the prediction is shown")
    watcher.stop()
    assert "needs 50 answers" in client.get("/monitor").text


def test_the_page_reloads_itself_until_it_is_paused(watcher: Watcher, recorder: Recorder) -> None:
    app = FastAPI()
    app.include_router(page.router(watcher, recorder))
    moving, paused = (
        TestClient(app).get(f"/monitor{query}").text for query in ("", "?paused=true")
    )
    assert 'http-equiv="refresh"' in moving and 'href="monitor?paused=true"' in moving
    assert 'http-equiv="refresh"' not in paused and 'href="monitor"' in paused


def test_gauges_hold_alerts_and_drift(watcher: Watcher) -> None:
    registry = CollectorRegistry()
    gauges.collect(registry, watcher)
    assert registry.get_sample_value("fieldmark_alert", {"kind": "drift", "version": "2"}) == 1
    assert registry.get_sample_value("fieldmark_alert", {"kind": "drift", "version": "1"}) == 0
    p = registry.get_sample_value(
        "fieldmark_drift_p_value", {"version": "2", "size": "50", "test": "brightness"}
    )
    assert p is not None and p < 0.001
    assert b"fieldmark_accuracy_expected" in generate_latest(registry)


def test_a_store_that_is_away_stops_neither_page_nor_scrape(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"no database, but some letter" * 100)
    watcher = Watcher(f"sqlite:///{tmp_path / 'letter'}", MONITOR)
    watcher.refresh()
    registry = CollectorRegistry()
    gauges.collect(registry, watcher)
    assert generate_latest(registry) == b""
    assert "their store cannot be reached" in page.render(
        watcher.last, every_s=60.0, project="fieldmark"
    )


def test_the_thread_looks_by_itself_and_ends(store: str) -> None:
    watcher = Watcher(store, MONITOR)
    watcher.start()
    wait_until(lambda: watcher.last is not None, "the first look")
    watcher.stop(LONG)
    assert not watcher._thread.is_alive()


def test_the_database_of_a_version_holds_at_most_the_last_reference(store: str) -> None:
    engine = tables.connect(store)
    reading.store_reference(engine, "1", rows(1500, 0))
    reading.store_reference(engine, "1", rows(200, 0))
    with engine.connect() as connection:
        assert (
            connection.execute(sa.select(sa.func.count()).select_from(tables.sources)).scalar()
            == 400
        )
