"""Disks that are full, read-only or limited: one line, nothing lost, nothing half-written."""

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import SMOKE, copy_project, write_forty_photos
from exports import tiny_export
from projects import browser_of, twelve

from pipeline import config
from pipeline.runs import failures
from pipeline.storage import store

SPACE = """
mount -t tmpfs -o size={size} tmpfs "$1" && cp -r "$2/." "$1" && cd "$1" || exit 99
{then} || exit 99
shift 2
PYTHONPATH=. "$@"
code=$?
for file in data/decisions/labels.csv .fieldmark/api-keys; do [ -s $file ] && sha256sum $file; done
find . -name '*.partial' -o -path './pics/*'
exit $code
"""
FULL = "dd if=/dev/zero of=filler bs=4096 2>&1 | grep -q 'No space left'"
READ_ONLY = 'mount -o remount,ro "$1"'
FIELDMARK = [sys.executable, "-m", "pipeline.cli"]
PREDICT = ["predict", "data/images", "--model", "exported", "--format", "pictures", "--out", "pics"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with forty photos and a model."""
    folder = copy_project(tmp_path_factory.mktemp("disks") / "project")
    write_forty_photos(folder / "data" / "images")
    (folder / "params.yaml").write_text(SMOKE)
    tiny_export(folder / "exported")
    return folder


def on_disk(
    project: Path, tmp_path: Path, then: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """The command on a copy of the project that lies on a small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    script = SPACE.format(size="40m", then=then)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "FIELDMARK"))}
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", str(place), str(project), *arguments],
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a disk of their own: {done.stderr}")
    return done


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (FULL, "disk is full|No space left"),
        (READ_ONLY, "Read-only file system|unable to open database"),
    ],
    ids=["full", "read-only"],
)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ingest"], id="ingest"),
        pytest.param(["models"], id="models", marks=pytest.mark.slow),
        pytest.param(["promote"], id="promote", marks=pytest.mark.slow),
        pytest.param(["serve", "--new-key", "me"], id="new key", marks=pytest.mark.slow),
        pytest.param(PREDICT, id="predict"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_line(
    then: str, words: str, arguments: list[str], photos: Path, tmp_path: Path
) -> None:
    done = on_disk(photos, tmp_path, then, *FIELDMARK, *arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("fieldmark: ")]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr
    assert any(word in lines[0] for word in words.split("|"))
    assert done.stdout.splitlines()[1:] == []  # no picture, no half of a file


def test_what_is_printed_onto_a_full_disk_is_not_lost_without_a_word(photos: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*FIELDMARK, "config"],
            cwd=photos,
            env=os.environ | {"PYTHONPATH": str(photos)},
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("fieldmark: cannot write") and "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@contextmanager
def no_file_above(n_bytes: int) -> Iterator[None]:
    """A limit of the system, as a full disk is one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_decision_that_the_disk_does_not_take_is_said_on_the_page_and_costs_no_other(
    tmp_path: Path,
) -> None:
    folder = twelve(tmp_path)
    with browser_of(folder, "ada") as page:
        ids = [item["id"] for item in page.get("/api/items?kind=suspect").json()]
        assert page.post("/api/decisions", json={"ids": ids[:1], "decision": "drop"}).is_success
        file = folder / "data" / "decisions" / "labels.csv"
        before = file.read_bytes()
        with no_file_above(len(before)):
            refused = page.post("/api/decisions", json={"ids": ids[1:2], "decision": "drop"})
        assert refused.status_code == 507 and "labels.csv" in refused.json()["detail"]
        assert file.read_bytes() == before and not list(folder.rglob("*.partial"))
        assert page.post("/api/decisions", json={"ids": ids[1:2], "decision": "drop"}).is_success
        assert file.read_bytes().startswith(before) and ids[1].encode() in file.read_bytes()


def test_an_array_that_has_no_room_is_refused_when_it_is_made(tmp_path: Path) -> None:
    """A mapped file that finds none later ends the process with SIGBUS."""
    with no_file_above(4096), pytest.raises(OSError, match="File too large"):
        store.open_array(tmp_path / "array.npy", (10_000,), np.uint8)
    array = store.open_array(tmp_path / "array.npy", (10_000,), np.uint8)
    assert (tmp_path / "array.npy").stat().st_blocks * 512 >= array.nbytes


def sqlite_full() -> None:
    with sqlite3.connect(":memory:") as db:
        db.execute("PRAGMA max_page_count = 1")
        db.execute("CREATE TABLE t (x)")


def numpy_full() -> None:
    with Path("array.npy").open("wb") as file:
        np.save(file, np.zeros(100_000))


def arrow_full() -> None:
    store.write_shard(Path("images-00000.parquet"), [("a", bytes(100_000))])


def torch_full() -> None:
    import torch

    torch.save(torch.zeros(100_000), "model.pt")


def safetensors_full() -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(100_000)}, "model.safetensors")


@pytest.mark.parametrize(
    "write", [sqlite_full, numpy_full, arrow_full, torch_full, safetensors_full]
)
def test_a_full_disk_is_known_by_whatever_library_meets_it(
    write: "object", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert callable(write)
    with no_file_above(8192), pytest.raises(Exception) as raised:  # noqa: PT011, B017
        write()
    wrapped = RuntimeError("a library's own")
    wrapped.__cause__ = raised.value
    line = failures.explain(wrapped)
    assert line and failures.FULL in line and "\n" not in line


@pytest.mark.parametrize("stands_there", ["a folder", "a file", "a loop"])
def test_something_else_in_the_place_of_state_is_one_line(
    stands_there: str, tmp_path: Path
) -> None:
    place = tmp_path / ".fieldmark"
    {"a folder": place.mkdir, "a file": place.touch, "a loop": lambda: place.symlink_to(place)}[
        stands_there
    ]()
    with pytest.raises(OSError) as raised:  # noqa: PT011
        config.made(place / "cache") if stands_there != "a folder" else place.read_text()
    line = failures.explain(raised.value)
    assert line and str(place) in line and failures.IN_THE_WAY in line


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    assert failures.explain(KeyError("label")) is None
    assert failures.explain(FileNotFoundError(2, "No such file or directory", "x")) is None
