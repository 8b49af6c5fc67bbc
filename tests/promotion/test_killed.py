"""`kill -9` before each write to the store that a promotion or a rollback makes."""

import shutil
import signal
from pathlib import Path

import moving
import pytest
from registered import aliases, register, write_test_images
from test_moves import chain, client, past, production

from pipeline import config
from pipeline.promotion import moves, tables

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
]

LEFT = ["outcome of what was left", "end of what was left"]
MOVED = ["alias", "other spelling", "previous", "outcome", "end"]
WRITES = {
    "promote": [*LEFT, "record", "figures", "gates", *MOVED],
    "rollback": [*LEFT, "record", *MOVED],
}
GOAL = {"promote": "4", "rollback": "2"}  # from version 3


def use(store: Path, patch: pytest.MonkeyPatch) -> None:
    """From now on the store, in a project folder of its own."""
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    patch.chdir(store.parent)


def killed(cfg: config.Config, what: str, number: int) -> int | None:
    """The exit code of a move from version 3 that is killed before its write of that number, from
    1.
    """
    process = moving.start(cfg, GOAL[what], what=what, killed_before=number)
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def cfg() -> config.Config:
    return config.load("name", "blur_faces", "preprocess", "promotion")


@pytest.fixture(scope="module")
def prepared(
    cfg: config.Config, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Four versions: three were promoted, a promotion of the fourth was killed, and an alias is
    spelt otherwise.
    """
    store = tmp_path_factory.mktemp("prepared") / "mlflow.db"
    shutil.copy(empty_store, store)
    write_test_images(store.parent / "data/preprocess/test")
    with pytest.MonkeyPatch.context() as patch:
        use(store, patch)
        for _ in range(4):
            register(store.parent)
        for version in ("1", "2", "3"):
            moves.promote(cfg, version)
        assert killed(cfg, "promote", 3) == -signal.SIGKILL
        client().set_registered_model_alias("fieldmark", "Production", "1")
    return store


@pytest.fixture
def store(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own."""
    monkeypatch.setenv("COLUMNS", "200")
    write_test_images(tmp_path / "data/preprocess/test")
    store = Path(shutil.copy(prepared, tmp_path / "mlflow.db"))
    use(store, monkeypatch)
    return store


@pytest.mark.parametrize(
    ("what", "number"),
    [
        pytest.param(what, i, id=f"{what}, {name}")
        for what, writes in WRITES.items()
        for i, name in enumerate(writes, start=1)
    ],
)
def test_a_kill_before_any_write_leaves_one_production_and_a_whole_history(
    what: str,
    number: int,
    cfg: config.Config,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert killed(cfg, what, number) == -signal.SIGKILL
    there = GOAL[what] if number > WRITES[what].index("alias") + 1 else "3"
    assert production() == there
    tables.history(cfg)
    output = capsys.readouterr().out
    assert "under way" not in output and "without a record" not in output
    twin = Path(shutil.copy(store, store.with_name("twin.db")))
    expected = [(None, "1"), ("1", "2"), ("2", "3"), *([("3", there)] if there != "3" else [])]

    moves.promote(cfg, "1")
    assert chain(past()) == [*expected, (there, "1")]
    assert aliases(client()) == {"candidate": "4", "production": "1", "previous": there}

    use(twin, monkeypatch)
    moves.rollback(cfg)
    back = str(int(there) - 1)
    assert chain(past()) == [*expected, (there, back)]
    assert aliases(client()) == {"candidate": "4", "production": back} | (
        {"previous": str(int(back) - 1)} if back != "1" else {}
    )


def test_no_write_is_left_out(cfg: config.Config, store: Path) -> None:
    assert killed(cfg, "promote", len(WRITES["promote"]) + 1) == 0
    assert killed(cfg, "rollback", len(WRITES["rollback"]) + 1) == 0
