"""What a server keeps for people to look at: pixels and answers, bounded, and never the file that
it was sent.
"""

import io
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.feedback.inbox import FILE, SIDE_PX, Answer, Inbox, accept, take_back

SURE, UNSURE = Answer("fieldmark/3", "cat", 0.9, False), Answer("fieldmark/3", "cat", 0.4, True)
PLENTY = 10**9


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def inbox(folder: Path, *kept: tuple[str, Answer], max_bytes: int = PLENTY) -> Inbox:
    made = Inbox(folder, max_bytes)
    for i, (upload, answer) in enumerate(kept):
        made.keep(upload, noise(i), answer)
    return made


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
    size = Inbox(tmp_path / "one", PLENTY)
    size.keep("a", noise(0), SURE)
    box = inbox(
        tmp_path / "two", ("said", SURE), ("doubt", UNSURE), max_bytes=int(3.5 * size.n_bytes())
    )
    box.say("said", "dog")
    for i in range(20):
        box.keep(f"plain{i}", noise(100 + i), SURE)
    assert [each.upload for each in box.waiting()] == ["said", "doubt"]
    assert box.n_bytes() <= 3.5 * size.n_bytes()
    with pytest.raises(KeyError):
        box.say("plain0", "dog")
    box.say("plain19", "dog")


def test_the_file_does_not_grow_with_what_was_forgotten(tmp_path: Path) -> None:
    box = Inbox(tmp_path, 100_000)
    for i in range(60):
        box.keep(str(i), noise(i), SURE)
    assert (tmp_path / FILE).stat().st_size < 200_000


def test_what_was_forgotten_leaves_no_pixels_behind(tmp_path: Path) -> None:
    box = Inbox(tmp_path, 20_000)
    box.keep("a", noise(0), UNSURE)
    middle = box.png(box.waiting()[0].id)[3000:3100]
    assert middle in (tmp_path / FILE).read_bytes()
    box.keep("b", noise(1), UNSURE)
    assert [each.upload for each in box.waiting()] == ["b"]
    assert middle not in (tmp_path / FILE).read_bytes()


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
