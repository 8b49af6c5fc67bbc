"""What an ingest remembers: a second one reads only what is new, and never believes what has
changed.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import ExifTags, Image

from pipeline import FieldmarkError
from pipeline.config import Config, schema
from pipeline.sources import Item, address, bounded, verify
from pipeline.stages import ingest
from pipeline.storage import store, table

FOLDER = {"_target_": "pipeline.sources.folder.read", "unlabelled": "unlabelled"}
N = 60


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)).save(path)


def run(images: Path, out: Path, **source: object) -> dict[str, bytes]:
    """Everything that an ingest writes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    settings = schema.Ingest(source={**FOLDER, **source}, max_megapixels=1.0)
    ingest.run(Config(ingest=settings), images=images, feedback=Path("none"), out=out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def afresh(
    images: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **source: object
) -> dict[str, bytes]:
    """The same without any memory."""
    with monkeypatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(out.parent / f"{out.name} cache"))
        return run(images, out, **source)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty photos in two classes in shards of eight, one of them twice, and two files that are
    none.
    """
    monkeypatch.setattr(store, "SHARD_IMAGES", 8)
    monkeypatch.setattr(address, "UNSETTLED_SECONDS", 0.0)
    for i in range(N):
        draw(tmp_path / "photos" / ("ant" if i % 2 else "bee") / f"{i:02d}.png", i)
    shutil.copy(tmp_path / "photos" / "ant" / "01.png", tmp_path / "photos" / "bee" / "again.png")
    (tmp_path / "photos" / "ant" / "note.jpg").write_text("no image")
    (tmp_path / "photos" / "bee" / "draft.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(20))
    return tmp_path / "photos"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that were read, as they are."""
    names: list[str] = []
    check = verify.verify

    def noted(entry: object, max_pixels: int) -> object:
        if isinstance(entry, Item):
            names.append(entry.name)
        return check(entry, max_pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(verify, "verify", noted)
    yield names


def test_a_second_ingest_reads_nothing_and_gives_the_same(
    photos: Path, tmp_path: Path, read: list[str]
) -> None:
    first = run(photos, tmp_path / "out")
    assert len(read) == N + 3
    read.clear()
    assert run(photos, tmp_path / "out") == first
    assert read == []


def test_only_what_was_added_is_read(
    photos: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "out")
    read.clear()
    for i in range(10):
        draw(photos / "ant" / f"{i:02d} new.png", 100 + i)
    (photos / "bee" / "00.png").unlink()
    second = run(photos, tmp_path / "out")
    assert sorted(read) == [f"ant/{i:02d} new.png" for i in range(10)]
    assert second == afresh(photos, tmp_path / "anew", monkeypatch)


def test_what_a_camera_wrote_is_still_known_when_the_photo_is_not_read(
    photos: Path, tmp_path: Path, read: list[str]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Box Brownie"
    Image.new("RGB", (20, 10), "teal").save(photos / "ant" / "taken.jpg", exif=exif)
    first = run(photos, tmp_path / "out")
    read.clear()
    assert run(photos, tmp_path / "out") == first
    assert read == []
    assert "Box Brownie" in set(
        table.read(tmp_path / "out")["metadata"].map(lambda text: json.loads(text).get("camera"))
    )


def test_a_file_that_could_not_be_read_is_tried_again(
    photos: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bounded.read_file

    def failing(path: Path, *limits: int) -> bytes:
        if path.name == "07.png":
            raise OSError(errno.EIO, "Input/output error")
        return whole(path, *limits)

    with monkeypatch.context() as patch:
        patch.setattr(bounded, "read_file", failing)
        first = run(photos, tmp_path / "out")
    assert b"Input/output error" in first["quarantine.csv"]
    read.clear()
    assert run(photos, tmp_path / "out") == afresh(photos, tmp_path / "anew", monkeypatch)
    assert read[0] == "ant/07.png" and len(read) == 1 + N + 3  # and all of them afresh


def test_a_change_in_place_is_noticed_though_size_and_time_are_as_before(
    photos: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = photos / "ant" / "31.png"
    run(photos, tmp_path / "out")
    read.clear()
    before = file.stat()
    draw(tmp_path / "other.png", 999)
    other = (tmp_path / "other.png").read_bytes()
    with file.open("r+b") as stream:
        stream.write(other)
        stream.truncate()
    os.truncate(file, max(before.st_size, len(other)))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_ino == before.st_ino
    second = run(photos, tmp_path / "out")
    assert read == ["ant/31.png"]
    assert second == afresh(photos, tmp_path / "anew", monkeypatch)


def test_what_changed_just_now_is_not_believed(
    photos: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change within the same tick of the clock would not show."""
    monkeypatch.setattr(address, "UNSETTLED_SECONDS", 3600.0)
    run(photos, tmp_path / "out")
    read.clear()
    run(photos, tmp_path / "out")
    assert len(read) == N + 3


def test_another_limit_judges_every_file_again(
    photos: Path, tmp_path: Path, read: list[str]
) -> None:
    run(photos, tmp_path / "out")
    read.clear()
    with pytest.raises(FieldmarkError, match="two classes"):
        ingest.run(
            Config(ingest=schema.Ingest(source=FOLDER, max_megapixels=0.0001)),
            images=photos,
            feedback=Path("none"),
            out=tmp_path / "small",
        )
    assert len(read) == N + 3


@pytest.mark.parametrize("damage", ["database", "shard cut", "shard gone", "all gone"])
def test_a_damaged_memory_costs_time_and_nothing_else(
    photos: Path, tmp_path: Path, read: list[str], damage: str
) -> None:
    first = run(photos, tmp_path / "out")
    read.clear()
    memory = Path(os.environ["FIELDMARK_CACHE"]) / "ingest"
    shards = sorted(memory.glob("images-*.parquet"))
    shutil.rmtree(tmp_path / "out")
    if damage == "database":
        (memory / "seen.sqlite").write_bytes(b"not a database" * 1000)
    elif damage == "shard cut":
        os.truncate(shards[3], 500)
    elif damage == "shard gone":
        shards[3].unlink()
    else:
        shutil.rmtree(memory)
    assert run(photos, tmp_path / "out") == first
    expected = 8 if damage.startswith("shard") else N + 3
    assert expected <= len(read) <= expected + 1  # the duplicate may be of that shard


def test_one_generation_is_kept(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for i in range(0, N, 4):
        (photos / "bee" / f"{i:02d}.png").unlink()
    run(photos, tmp_path / "out")
    memory = Path(os.environ["FIELDMARK_CACHE"]) / "ingest"
    packed = {path.stat().st_ino for path in memory.glob("images-*.parquet")}
    assert packed == {path.stat().st_ino for path in (tmp_path / "out").glob("images-*.parquet")}


def test_an_archive_is_known_as_long_as_it_is_the_same(
    photos: Path, tmp_path: Path, read: list[str]
) -> None:
    whole = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    source = {
        "_target_": "pipeline.sources.archive.read",
        "max_member_megabytes": 10.0,
        "max_ratio": 100.0,
    }
    first = run(Path(whole), tmp_path / "out", **source)
    assert len(read) == N + 3
    read.clear()
    assert run(Path(whole), tmp_path / "out", **source) == first
    assert read == []


SCRIPT = """
import os, signal
from pathlib import Path
from pipeline.config import schema
from pipeline.storage import store, table
from pipeline.config import Config
from pipeline.sources import address
from pipeline.stages import ingest

store.SHARD_IMAGES, address.UNSETTLED_SECONDS = 8, 0.0
written, write = [], store.write_shard

def dying(path, items):
    write(path, items)
    written.append(path)
    if len(written) == 4:  # whole, and not yet named
        os.kill(os.getpid(), signal.SIGKILL)

store.write_shard = dying
source = {"_target_": "pipeline.sources.folder.read", "unlabelled": "unlabelled"}
ingest.run(Config(ingest=schema.Ingest(source=source, max_megapixels=1.0)), images=Path("photos").absolute(), feedback=Path("none"), out=Path("out"))
"""


def test_after_a_kill_it_goes_on_with_what_was_read(
    photos: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    second = run(photos, tmp_path / "out")
    # Three shards are in the ledger, and one photo stands in them twice.
    assert len(read) < N + 3 - 3 * 8 + 2
    assert second == afresh(photos, tmp_path / "anew", monkeypatch)
