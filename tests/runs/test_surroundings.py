"""Machines without what others take for granted: a UTF-8 locale, a name of the account, a home."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMOKE, copy_project, rebuild_environment, write_forty_photos
from projects import twelve
from registered import register, write_test_images

from pipeline.storage import table

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

# An account without a name, as in a container.
NOBODY = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
PRINTS = (
    "from pipeline.runs import surroundings; surroundings.settle(); print(chr(0x43a), '\\udce9')"
)


@pytest.fixture(scope="session")
def latin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a locale in ISO-8859-1."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    localedef = shutil.which("localedef") and subprocess.run(
        command, capture_output=True, check=False
    )
    if not localedef or localedef.returncode:
        pytest.skip("no localedef here, or none of its sources, to make a locale in ISO-8859-1")
    return {"LOCPATH": str(folder), "LC_ALL": "en_US.ISO-8859-1"}


@pytest.fixture(params=["C", pytest.param("POSIX", marks=pytest.mark.slow), "ISO-8859-1"])
def locale_(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a locale that is not UTF-8."""
    if request.param == "ISO-8859-1":
        return dict(request.getfixturevalue("latin"))
    return {"LC_ALL": request.param}


def environment(**more: str) -> dict[str, str]:
    """This one, without what says who and in which language."""
    prefixes = ("LANG", "LC_", "LOCPATH", "PYTHONUTF8", "PYTHONIOENCODING", "MLFLOW", "FIELDMARK")
    ours = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    return {**ours, **more}


def fieldmark(
    folder: Path, env: dict[str, str], *arguments: str, before: tuple[str, ...] | list[str] = ()
) -> "subprocess.CompletedProcess[bytes]":
    """The command of a project folder, as a person starts it."""
    return subprocess.run(
        [*before, sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env=env | {"PYTHONPATH": str(folder)},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def coffee(tmp_path: Path) -> Path:
    """A project whose classes are in Cyrillic and with an umlaut."""
    folder = copy_project(tmp_path / "project")
    images = write_forty_photos(folder / "data" / "images")
    (images / "coffee").rename(images / "кофе")
    (images / "person").rename(images / "Grüße")
    (folder / "params.yaml").write_text(SMOKE)
    return folder


def test_classes_in_any_script_are_taken_in_and_printed_in_utf_8_under_every_locale(
    locale_: dict[str, str], coffee: Path
) -> None:
    done = fieldmark(coffee, environment(**locale_), "ingest", "--check")
    assert done.returncode == 0, done.stderr.decode()
    assert "class кофе: 11" in done.stdout.decode() and "class Grüße: 10" in done.stdout.decode()
    (coffee / "data" / "ingest").mkdir()
    ingest = fieldmark(coffee, environment(**locale_), "ingest")
    assert ingest.returncode == 0, ingest.stderr.decode()
    assert set(table.read(coffee / "data" / "ingest")["label"]) >= {"кофе", "Grüße"}


def test_a_name_that_is_no_text_is_printed_with_backslashes(
    locale_: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PRINTS]
    env = environment(**locale_, PYTHONPATH=str(ROOT))
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode() == "к \\udce9\n"


def test_a_folder_that_dvc_cannot_name_in_its_locale_is_refused_before_it_removes_anything(
    latin: dict[str, str], coffee: Path
) -> None:
    (coffee / "data" / "images").rename(coffee / "data" / "фото")
    (coffee / "params.yaml").write_text(SMOKE.replace("data/images", "data/фото"), encoding="utf-8")
    env = environment(**latin, DVC_STAGE="config")
    done = fieldmark(coffee, env, "config", "--check")
    assert done.returncode == 2 and "export PYTHONUTF8=1" in done.stderr.decode()
    assert len(done.stderr.decode().splitlines()) == 1
    env = environment(**latin, DVC_STAGE="config", PYTHONUTF8="1")
    assert fieldmark(coffee, env, "config", "--check").returncode == 0


@pytest.mark.slow
def test_a_rebuild_under_another_locale_makes_the_same_classes(
    latin: dict[str, str], coffee: Path, tmp_path: Path
) -> None:
    env = rebuild_environment(coffee, tmp_path / "cache") | latin
    env = {k: v for k, v in env.items() if k not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    done = subprocess.run(["dvc", "repro"], cwd=coffee, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    classes = json.loads((coffee / "data" / "export" / "signature.json").read_bytes())["classes"]
    assert classes == ["Grüße", "flower", "temple", "кофе"]
    assert "кофе" in (coffee / "data" / "evaluate" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def nobody(tmp_path: Path) -> dict[str, str]:
    """The environment of an account that has no name and no home."""
    tried = subprocess.run([*NOBODY, "true"], capture_output=True, check=False) if _unshare() else 1
    if tried == 1 or tried.returncode:
        pytest.skip("this machine lets nobody have a user namespace")
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def _unshare() -> bool:
    return shutil.which("unshare") is not None


@pytest.mark.parametrize("home", [None, "/proc"], ids=["no home", "a home that is not writable"])
def test_an_account_without_a_name_promotes_and_is_on_record_by_its_number(
    home: str | None, nobody: dict[str, str], tmp_path: Path, empty_store: Path
) -> None:
    folder = copy_project(tmp_path / "project")
    shutil.copy(empty_store, folder / "mlflow.db")
    monkey = pytest.MonkeyPatch()
    monkey.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkey.chdir(folder)
    register(folder)
    write_test_images(folder / "data/preprocess/test")
    monkey.undo()
    env = nobody | ({"HOME": home} if home else {}) | {"GIT_CONFIG_NOSYSTEM": "1"}
    done = fieldmark(folder, env, "promote", "--force", "--why", "it must", before=NOBODY)
    assert done.returncode == 0, done.stderr.decode()
    history = fieldmark(folder, env, "history", before=NOBODY).stdout.decode()
    assert "uid-12345" in history and "it must" in history
    assert not (folder / "~").exists()


def test_an_account_without_a_name_reviews(nobody: dict[str, str], tmp_path: Path) -> None:
    folder = twelve(copy_project(tmp_path / "project"))
    command = [*NOBODY, sys.executable, "-m", "pipeline.cli", "review", "--port=0", "--no-browser"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=nobody | {"PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        process.terminate()
    assert first.startswith("Reviewing as uid-12345: http://127.0.0.1:")


def test_make_gives_dvc_what_it_takes_for_granted(nobody: dict[str, str], tmp_path: Path) -> None:
    """DVC asks for the name of the account and for its home, and ends with a traceback."""
    command = [*NOBODY, "make", "--file", str(ROOT / "Makefile"), "--eval", "show: ; @env", "show"]
    done = subprocess.run(command, cwd=tmp_path, env=nobody, capture_output=True, check=True)
    listed = set(done.stdout.decode().splitlines())
    assert {"PYTHONUTF8=1", "LOGNAME=uid-12345", f"HOME={tmp_path}/.fieldmark/home"} <= listed
