"""What a project keeps in .fieldmark is its owner's alone, whoever makes the folder first."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline import config
from pipeline.feedback.inbox import FOLDER, Answer, Inbox
from pipeline.labels import decisions
from pipeline.monitor import tables
from pipeline.promotion import moves, registry
from pipeline.runs import runner, tracking
from pipeline.serving import keys
from pipeline.sources import ledger
from pipeline.storage import store

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

STATE = Path(".fieldmark")
LINE = ["0" * 64, "drop", "", "Ada", "2026-01-31T18:30:00+00:00"]


def keep_an_image() -> None:
    Inbox(FOLDER, 10**7).keep("u", np.zeros((8, 8, 3), np.uint8), Answer("m/1", "cat", 0.5, True))


def remember_files() -> None:
    with ledger.opened(10**6):
        pass


def hold_a_stage() -> None:
    with runner._alone("ingest"):
        pass


def promote() -> None:
    tracking.mlflow.set_tracking_uri("http://127.0.0.1:9")  # asks nothing of it
    with moves._locked(registry.Registry(tracking.mlflow.MlflowClient(), "0", "fieldmark")):
        pass


MAKERS: dict[str, Callable[[], object]] = {
    "check": config.check,
    "decide": lambda: decisions.append(Path("data/decisions"), [LINE], STATE / "decisions.lock"),
    "keep an image": keep_an_image,
    "make a key": lambda: keys.new("ada", STATE / "api-keys"),
    "record": lambda: tables.ready(tables.connect(tables.DEFAULT_URL)),
    "remember files": remember_files,
    "hold a stage": hold_a_stage,
    "begin a stage": lambda: runner._fresh(STATE / "partial" / "ingest"),
    "track": tracking.connect,
    "promote": promote,
    "cache": lambda: store.open_array(STATE / "cache" / "folds" / "a.npy", (2,), np.float32),
}
SECRET = {  # what holds photos, keys or records
    "keep an image": FOLDER / "inbox.db",
    "make a key": STATE / "api-keys",
    "record": STATE / "monitor.db",
    "remember files": STATE / "cache" / "ingest" / "seen.sqlite",
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def open_umask(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of most systems, under which others may read what one makes."""
    monkeypatch.delenv("FIELDMARK_CACHE")
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.usefixtures("open_umask")
def test_whoever_makes_the_folder_first_makes_it_for_its_owner_alone(maker: str) -> None:
    MAKERS[maker]()
    assert mode(STATE) == 0o700


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.usefixtures("open_umask")
def test_a_folder_that_others_could_read_is_closed(maker: str) -> None:
    STATE.mkdir(mode=0o755)
    MAKERS[maker]()
    assert mode(STATE) == 0o700


@pytest.mark.parametrize("maker", SECRET)
@pytest.mark.usefixtures("open_umask")
def test_files_of_photos_keys_and_records_are_the_owners_also_by_themselves(maker: str) -> None:
    SECRET[maker].parent.mkdir(parents=True, exist_ok=True)
    MAKERS[maker]()
    assert mode(SECRET[maker]) == 0o600
    SECRET[maker].chmod(0o644)
    MAKERS[maker]() if maker != "make a key" else keys.new("eve", SECRET[maker])
    assert mode(SECRET[maker]) == 0o600


@pytest.mark.usefixtures("open_umask")
def test_outputs_stay_as_readable_as_the_account_makes_them() -> None:
    with store.whole(Path("data/decisions/labels.csv"), STATE / "half") as half:
        config.made(STATE)
        half.write_text("")
    assert mode(Path("data/decisions/labels.csv")) == 0o644
    assert mode(config.made(Path("data/ingest"))) == 0o755
