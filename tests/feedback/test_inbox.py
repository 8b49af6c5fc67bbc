"""The inbox keeps pixels and answers within its limit, and never the uploaded file."""

import io
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.feedback import database
from pipeline.feedback.database import opened
from pipeline.feedback.inbox import FILE, SIDE_PX, Answer, Inbox, TooLarge, accept, take_back

SURE, UNSURE = Answer("fieldmark/3", "cat", 0.9, False), Answer("fieldmark/3", "cat", 0.4, True)
PLENTY = 10**9
IMAGE = 12_500  # bytes of one of noise, as a PNG
EMPTY = 36_864  # bytes of the file with its indexes and without an image
# Beside the images: writing one anew, with its journal, and what else a transaction changes.
ROOM_FOR_ONE, ROOM_FOR_THREE = (EMPTY + (n + 2) * (IMAGE + 8192) + 16 * 4096 for n in (1, 3))


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def inbox(folder: Path, *kept: tuple[str, Answer], max_bytes: int = PLENTY) -> Inbox:
    box = Inbox(folder, max_bytes)
    for i, (upload, answer) in enumerate(kept):
        box.keep(upload, noise(i), answer)
    return box


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@contextmanager
def journals_stay(file: Path, max_bytes: int | None = None) -> Iterator[sqlite3.Connection]:
    """As `opened`; the journal beside the file keeps the size of its largest transaction."""
    with opened(file, max_bytes) as db:
        db.execute("PRAGMA journal_mode = PERSIST")
        yield db


def test_people_see_what_was_objected_to_first_and_then_what_the_model_doubted(
    tmp_path: Path,
) -> None:
    box = inbox(tmp_path, ("a", SURE), ("b", UNSURE), ("c", SURE), ("d", UNSURE))
    box.say("a", "dog")
    assert [
        (each.upload, each.label, each.predicted, each.confidence) for each in box.waiting()
    ] == [
        ("a", "dog", "cat", 0.9),
        ("d", "", "cat", 0.4),
        ("b", "", "cat", 0.4),
    ]


def test_the_pixels_are_kept_exactly_and_named_by_their_hash(tmp_path: Path) -> None:
    box = inbox(tmp_path, ("a", UNSURE))
    png = box.png(box.waiting()[0].id)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), noise(0))
    assert box.waiting()[0].id == sha256(png).hexdigest()
    assert Image.open(io.BytesIO(png)).info == {}


def test_a_large_photo_is_kept_smaller(tmp_path: Path) -> None:
    box = Inbox(tmp_path, PLENTY)
    box.keep("a", np.zeros((40, 2 * SIDE_PX, 3), np.uint8), UNSURE)
    assert (box.waiting()[0].width, box.waiting()[0].height) == (SIDE_PX, 20)


def test_when_room_runs_out_what_someone_said_stays_longest(tmp_path: Path) -> None:
    box = inbox(tmp_path / "two", ("said", SURE), ("doubt", UNSURE), max_bytes=ROOM_FOR_THREE)
    box.say("said", "dog")
    for i in range(20):
        box.keep(f"plain{i}", noise(100 + i), SURE)
    assert [each.upload for each in box.waiting()] == ["said", "doubt"]
    assert on_disk(tmp_path / "two") <= ROOM_FOR_THREE
    with pytest.raises(KeyError):
        box.say("plain0", "dog")
    box.say("plain19", "dog")


def test_the_file_does_not_grow_with_what_was_forgotten(tmp_path: Path) -> None:
    box = Inbox(tmp_path, 200_000)
    for i in range(60):
        box.keep(str(i), noise(i), SURE)
    assert on_disk(tmp_path) <= 200_000


def test_what_was_forgotten_leaves_no_pixels_behind(tmp_path: Path) -> None:
    box = Inbox(tmp_path, ROOM_FOR_ONE)
    box.keep("a", noise(0), UNSURE)
    png = box.png(box.waiting()[0].id)
    parts = [png[at : at + 100] for at in range(1000, 12_000, 500)]
    assert sum(part in (tmp_path / FILE).read_bytes() for part in parts) > 15  # some are in two
    box.keep("b", noise(1), UNSURE)
    assert [each.upload for each in box.waiting()] == ["b"]
    assert not any(part in (tmp_path / FILE).read_bytes() for part in parts)


def test_an_image_sent_again_keeps_what_was_said_of_it(tmp_path: Path) -> None:
    box = inbox(tmp_path, ("a", SURE))
    box.say("a", "dog")
    box.keep("a", noise(0), Answer("fieldmark/4", "bee", 0.8, False))
    (only,) = box.waiting()
    assert (only.label, only.predicted, only.model) == ("dog", "bee", "fieldmark/4")


def test_nothing_is_made_before_something_is_kept(tmp_path: Path) -> None:
    box = Inbox(tmp_path / "none", PLENTY)
    assert (box.waiting(), box.n_bytes()) == ([], 0)
    for call in (lambda: box.png("a"), lambda: box.say("a", "dog")):
        with pytest.raises(KeyError):
            call()
    assert not (tmp_path / "none").exists()


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    def work(i: int) -> None:
        box = Inbox(tmp_path, PLENTY)
        box.keep(str(i), noise(i, 8), SURE)
        box.say(str(i), f"label {i}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert {each.upload: each.label for each in Inbox(tmp_path).waiting()} == {
        str(i): f"label {i}" for i in range(40)
    }


def test_text_in_a_label_is_text(tmp_path: Path) -> None:
    box = inbox(tmp_path, ("a", SURE))
    box.say("a", "'; DROP TABLE images; --")
    assert box.waiting()[0].label == "'; DROP TABLE images; --"


def test_accepting_writes_the_png_and_taking_back_removes_it(tmp_path: Path) -> None:
    box = inbox(tmp_path / "box", ("a", UNSURE))
    id = box.waiting()[0].id
    accept(box, id, tmp_path / "data")
    assert sha256((tmp_path / "data" / f"{id}.png").read_bytes()).hexdigest() == id
    assert [path.name for path in (tmp_path / "data").iterdir()] == [f"{id}.png"]
    take_back(id, tmp_path / "data")
    take_back(id, tmp_path / "data")
    assert [*(tmp_path / "data").iterdir()] == []


def test_a_damaged_database_says_so_and_is_no_reason_to_guess(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Inbox(tmp_path).waiting()


@pytest.mark.parametrize("max_bytes", [200_000, 500_000, 2_000_000])
@pytest.mark.parametrize("side", [1, 20, 64, 150])
def test_file_and_journal_never_take_more_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int, side: int
) -> None:
    monkeypatch.setattr(database, "opened", journals_stay)
    box = Inbox(tmp_path, max_bytes)
    most = 0
    for i in range(40):
        with suppress(TooLarge):
            box.keep(f"{i:064x}", noise(i, side), UNSURE, f"{i}-{'x' * 40}")
            box.say(f"{i}-{'x' * 40}", "a label of some length " * 20)
        most = max(most, on_disk(tmp_path))
    assert most <= max_bytes
    assert box.waiting() or side == 150


def test_one_image_asked_for_again_and_again_stays_within_the_bound(tmp_path: Path) -> None:
    box = Inbox(tmp_path, 150_000)
    box.keep("a" * 64, noise(0, 8), UNSURE, "first")
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.executemany(
            "INSERT INTO predictions VALUES (?, ?)", ((f"{i:032}", "a" * 64) for i in range(300))
        )
    for i in range(20):
        box.keep("a" * 64, noise(0, 8), UNSURE, f"again {i}")
    assert on_disk(tmp_path) <= 150_000
    box.say("again 19", "dog")
    with pytest.raises(KeyError):
        box.say("first", "dog")


def test_a_file_from_before_the_bound_was_lowered_shrinks(tmp_path: Path) -> None:
    box = inbox(tmp_path, *((f"{i}", SURE) for i in range(30)))
    box.say("3", "dog")
    assert on_disk(tmp_path) > 400_000
    lower = Inbox(tmp_path, ROOM_FOR_THREE)
    assert on_disk(tmp_path) <= ROOM_FOR_THREE
    assert [each.upload for each in lower.waiting()] == ["3"]


def test_what_does_not_fit_by_itself_is_refused_and_what_is_kept_stays_bounded(
    tmp_path: Path,
) -> None:
    box = Inbox(tmp_path, ROOM_FOR_ONE)
    with pytest.raises(TooLarge):
        box.keep("large", noise(0, 300), UNSURE)
    assert box.waiting() == []


def test_keeping_one_image_sorts_and_searches_nothing(tmp_path: Path) -> None:
    inbox(tmp_path, ("a", SURE))
    queries = [
        database.LEAST,
        "SELECT MAX(n_bytes) FROM images",
        "SELECT 1 FROM images WHERE upload = 'a' AND blurred = 0",
        "DELETE FROM predictions WHERE upload = 'a'",
        "SELECT png FROM images WHERE id = 'a'",
    ]
    with opened(tmp_path / FILE) as db:
        plans = [str(db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()) for query in queries]
    assert all("INDEX" in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


def test_an_older_file_is_read_and_its_pixels_count_as_unblurred(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.executescript(
            "CREATE TABLE images (upload TEXT PRIMARY KEY, id TEXT, at TEXT, model TEXT, "
            "predicted TEXT, confidence REAL, abstain INTEGER, label TEXT DEFAULT '', "
            "width INTEGER, height INTEGER, n_bytes INTEGER, png BLOB);"
            "CREATE TABLE predictions (prediction TEXT PRIMARY KEY, upload TEXT);"
            "INSERT INTO images VALUES ('a', 'b', '2026', 'm/1', 'cat', 0.5, 1, '', 1, 1, 1, 'x')"
        )
    box = Inbox(tmp_path, PLENTY)
    assert [each.upload for each in box.waiting()] == ["a"]
    assert (box.waiting(only_blurred=True), box.n_unblurred()) == ([], 1)


def test_sent_again_where_faces_are_blurred_the_blurred_pixels_take_the_place(
    tmp_path: Path,
) -> None:
    box = inbox(tmp_path, ("a", UNSURE))
    box.say("a", "dog")
    before = box.waiting()[0].id
    box.keep("a", noise(1), Answer("fieldmark/4", "bee", 0.4, True), blurred=True)
    (only,) = box.waiting(only_blurred=True)
    assert (only.label, only.model) == ("dog", "fieldmark/4")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(box.png(only.id)))), noise(1))
    with pytest.raises(KeyError):
        box.png(before)


def test_blurring_replaces_what_was_kept_and_forgets_what_is_damaged(tmp_path: Path) -> None:
    box = inbox(tmp_path, ("a", UNSURE), ("b", UNSURE), ("damaged", UNSURE))
    box.keep("c", noise(7), UNSURE, blurred=True)
    png = box.png(next(each.id for each in box.waiting() if each.upload == "a"))
    parts = [png[at : at + 100] for at in range(1000, 12_000, 500)]
    assert sum(part in (tmp_path / FILE).read_bytes() for part in parts) > 15
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("UPDATE images SET png = CAST('no png' AS BLOB) WHERE upload = 'damaged'")
    box.blur(np.zeros_like)
    blurred = {each.upload: each for each in box.waiting(only_blurred=True)}
    assert blurred.keys() == {"a", "b", "c"}
    assert not np.asarray(Image.open(io.BytesIO(box.png(blurred["a"].id)))).any()
    assert blurred["a"].id == sha256(box.png(blurred["a"].id)).hexdigest()
    assert np.asarray(Image.open(io.BytesIO(box.png(blurred["c"].id)))).any()
    assert not any(part in (tmp_path / FILE).read_bytes() for part in parts)
