"""API keys that come and go while the server runs."""

import logging
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taking import take

from pipeline.serving import keys
from pipeline.serving.keys import Keys


def without(file: Path, name: str) -> None:
    """Delete a name's line, as a person does it in an editor."""
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith(f"{name} ")))


def opened(file: Path) -> Keys:
    return Keys(keys.load(file), 50.0, 100, file)


def test_a_withdrawn_key_stops_working_and_a_new_one_works_without_a_restart(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys"
    ada, eve = keys.new("ada", file), keys.new("eve", file)
    known = opened(file)
    assert (known.name(ada), known.name(eve)) == ("ada", "eve")
    without(file, "eve")
    assert (known.name(ada), known.name(eve)) == ("ada", None)
    bob = keys.new("bob", file)
    assert known.name(bob) == "bob"
    assert known.wait_s("bob") == 0


@pytest.mark.parametrize("how", ["emptied", "deleted", "replaced by a folder"])
def test_where_no_key_is_left_nobody_gets_in(how: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = keys.new("ada", file)
    known = opened(file)
    assert known.name(key) == "ada"
    file.unlink()
    {"emptied": file.touch, "deleted": lambda: None, "replaced by a folder": file.mkdir}[how]()
    assert known.name(key) is None
    assert known  # the server still asks for one


@pytest.mark.parametrize("how", ["deleted", "a file", "a loop"])
def test_where_the_folder_of_the_keys_is_no_folder_any_more_nobody_gets_in(
    how: str, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    key = keys.new("ada", folder / "keys")
    known = opened(folder / "keys")
    assert known.name(key) == "ada"
    (folder / "keys").unlink()
    folder.rmdir()
    {"deleted": lambda: None, "a file": folder.touch, "a loop": lambda: folder.symlink_to(folder)}[
        how
    ]()
    assert known.name(key) is None


def test_a_slip_in_the_file_keeps_no_key_from_being_withdrawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    ada, eve = keys.new("ada", file), keys.new("eve", file)
    known = opened(file)
    without(file, "eve")
    file.write_text(file.read_text() + "half a li")
    with caplog.at_level(logging.ERROR):
        assert [known.name(key) for key in (ada, eve, ada)] == ["ada", None, "ada"]
    assert len(caplog.records) == 1  # said once, not with each request
    assert "--new-key" in caplog.text


def test_a_key_from_the_environment_outlives_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    key = keys.new("ada", file)
    monkeypatch.setenv(keys.VARIABLE, file.read_text().strip().replace(" ", ":"))
    known = opened(file)
    file.unlink()
    assert known.name(key) == "ada"


def test_a_file_that_stays_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    key = keys.new("ada", file)
    known = opened(file)
    assert known.name(key) == "ada"
    monkeypatch.setattr(keys, "_read", lambda file: pytest.fail("it is as it was"))
    assert known.name(key) == "ada"


@given(names=st.lists(st.from_regex(r"[\w.-]{1,64}", fullmatch=True), unique=True, max_size=200))
def test_every_name_has_a_bucket_of_its_own(names: list[str]) -> None:
    known = Keys({"hash": "ada"}, 1.0, 1)
    assert [known.wait_s(name, 0.0) for name in names] == [0.0] * len(names)
    assert [known.wait_s(name, 0.0) for name in names] == [1.0] * len(names)


def test_a_key_that_came_later_asks_no_more_of_two_processes_than_of_one(tmp_path: Path) -> None:
    known = Keys({"hash": "eve"}, rate_per_s=1.0, burst=5)
    other = multiprocessing.get_context("spawn").Process(target=take, args=(known, 3))
    other.start()
    other.join()
    assert other.exitcode == 3
    assert [known.wait_s("ada", 0.0) == 0 for _ in range(3)] == [True, True, False]
