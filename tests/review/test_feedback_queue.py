"""What came back from production: a queue of the review page, and, once accepted, images of the
next rebuild.
"""

import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from projects import LABELS, browser_of, square, twelve

from pipeline.feedback import inbox
from pipeline.feedback.inbox import Answer, Inbox
from pipeline.labels import decisions
from pipeline.pixels import faces, images
from pipeline.review.board import Board
from pipeline.sources import Item
from pipeline.sources import feedback as source
from pipeline.storage import table

KNOWN = sha256(square(50)).hexdigest()  # of the sixth image, a dog


def shot(shade: int) -> np.ndarray:
    return images.decode(square(shade), max_pixels=None)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Twelve squares; someone says of a stranger that it is a dog, of a known image that it is a
    cat; one was doubted.
    """
    folder = twelve(tmp_path)
    box = Inbox(folder / inbox.FOLDER, 10**9)
    box.keep("new", shot(200), Answer("fieldmark/1", "cat", 0.9, False))
    box.say("new", "dog")
    box.keep("doubted", shot(210), Answer("fieldmark/1", "cat", 0.4, True))
    box.keep("plain", shot(220), Answer("fieldmark/1", "cat", 0.9, False))
    box.keep(KNOWN, shot(50), Answer("fieldmark/1", "dog", 0.8, False))
    box.say(KNOWN, "cat")
    return folder


@pytest.fixture
def ada(project: Path) -> TestClient:
    return browser_of(project, "Ada")


def queue(page: TestClient, kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = page.get("/api/items", params={"kind": kind}).json()
    return items


def decide(page: TestClient, id: str, decision: str, label: str = "", *, new: bool = False) -> Any:
    done = page.post(
        "/api/decisions", json={"ids": [id], "decision": decision, "label": label, "new": new}
    )
    assert done.status_code == 200, done.text
    return done.json()


def accepted(project: Path) -> list[str]:
    return (
        [path.stem for path in (project / inbox.ACCEPTED).glob("*")]
        if (project / inbox.ACCEPTED).exists()
        else []
    )


def test_what_people_said_is_suggested_and_the_prediction_told(ada: TestClient) -> None:
    known, new = queue(ada, "feedback")
    assert (new["label"], new["suggested_label"], new["predicted"], new["neighbours"]) == (
        "",
        "dog",
        "cat",
        [],
    )
    assert (known["id"], known["label"], known["suggested_label"], known["predicted"]) == (
        KNOWN,
        "dog",
        "cat",
        "dog",
    )


def test_what_the_model_doubted_is_a_queue_of_its_own(ada: TestClient) -> None:
    (doubted,) = queue(ada, "abstained")
    assert (doubted["suggested_label"], doubted["predicted"], doubted["suspect_score"]) == (
        "cat",
        "cat",
        pytest.approx(0.6),
    )
    assert ada.get("/api/summary").json()["kinds"]["abstained"] == {
        "n": 1,
        "n_decided": 0,
        "expected_wrong": None,
    }


def test_the_picture_is_shown(ada: TestClient) -> None:
    answer = ada.get(f"/api/images/{queue(ada, 'feedback')[1]['id']}")
    assert np.array_equal(images.decode(answer.content, max_pixels=None), shot(200))


def test_an_accepted_image_lies_where_ingest_reads_it_and_its_label_is_a_decision(
    ada: TestClient, project: Path
) -> None:
    id = queue(ada, "feedback")[1]["id"]
    decide(ada, id, "relabel", "dog")
    (item,) = source.read(project / inbox.ACCEPTED)
    assert isinstance(item, Item)
    assert (sha256(item.load()).hexdigest(), item.label, item.given_split) == (id, "", "")
    assert decisions.read(project / "data" / "decisions")[
        ["id", "decision", "label", "by"]
    ].values.tolist() == [[id, "relabel", "dog", "Ada"]]


@pytest.mark.parametrize("decision", ["drop", "unsure"])
def test_what_is_not_accepted_does_not_come_in(
    ada: TestClient, project: Path, decision: str
) -> None:
    decide(ada, queue(ada, "feedback")[1]["id"], decision)
    assert accepted(project) == []


def test_what_is_taken_back_goes_away_again(ada: TestClient, project: Path) -> None:
    id = queue(ada, "abstained")[0]["id"]
    when = decide(ada, id, "relabel", "cat")["when"]
    assert accepted(project) == [id]
    ada.post("/api/undo", json={"when": when})
    assert accepted(project) == []
    assert queue(ada, "abstained")[0]["id"] == id


def test_people_who_differ_bring_nothing_in_until_they_agree(
    ada: TestClient, project: Path
) -> None:
    id = queue(ada, "abstained")[0]["id"]
    ben = browser_of(project, "Ben")
    decide(ada, id, "relabel", "cat")
    decide(ben, id, "relabel", "dog")
    assert accepted(project) == []
    decide(ada, id, "relabel", "dog")
    assert accepted(project) == [id]


def test_feedback_on_an_image_of_the_data_is_a_decision_on_that_one(
    ada: TestClient, project: Path
) -> None:
    decide(ada, KNOWN, "relabel", "cat")
    assert accepted(project) == []
    assert decisions.read(project / "data" / "decisions")["id"].tolist() == [KNOWN]


def test_feedback_that_comes_while_the_page_is_open_appears_and_decisions_stay(
    ada: TestClient, project: Path
) -> None:
    first = queue(ada, "feedback")[1]["id"]
    decide(ada, first, "drop")
    box = Inbox(project / inbox.FOLDER, 10**9)
    box.keep("later", shot(230), Answer("fieldmark/1", "cat", 0.9, False))
    box.say("later", "mouse")
    assert [item["suggested_label"] for item in queue(ada, "feedback")] == ["mouse", "cat"]
    assert [
        item["id"]
        for item in ada.get("/api/items", params={"kind": "decided", "decided": True}).json()
    ] == [first]


def test_unlabelled_images_and_their_groups_know_nothing_of_it(ada: TestClient) -> None:
    decide(ada, queue(ada, "feedback")[1]["id"], "relabel", "dog")
    assert len(queue(ada, "unlabelled")) == LABELS.count("")
    members = {one["id"] for group in ada.get("/api/groups").json() for one in group["members"]}
    assert members == {item["id"] for item in queue(ada, "unlabelled")}


def test_an_image_that_has_come_in_is_shown_no_more(ada: TestClient, project: Path) -> None:
    found = project / "data" / "label-check"
    rows = table.read(found)
    id = queue(ada, "feedback")[1]["id"]
    table.write(rows.assign(id=[id, *rows["id"][1:]]), found)
    assert [item["id"] for item in queue(ada, "feedback")] == [KNOWN]


def test_without_feedback_the_page_is_as_it_was(tmp_path: Path) -> None:
    page = browser_of(twelve(tmp_path), "Ada")
    assert queue(page, "feedback") == queue(page, "abstained") == []
    assert not (tmp_path / ".fieldmark" / "feedback").exists()


def test_kept_before_blur_faces_was_on_an_image_is_shown_and_accepted_blurred_or_not_at_all(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    go, begun = threading.Event(), threading.Event()

    def blurred(pixels: np.ndarray) -> np.ndarray:
        begun.set()
        assert go.wait(60)
        return np.zeros_like(pixels)

    monkeypatch.setattr(faces, "blurred", blurred)
    before = {each.id for each in Inbox(project / inbox.FOLDER).waiting()}
    board = Board(project, "Ada", blur_faces=True)
    assert begun.wait(60)
    assert "4 images of feedback were kept before blur_faces was switched on" in (
        capsys.readouterr().out
    )
    assert board.queue("feedback", decided=True) == board.queue("abstained", decided=True) == []
    go.set()
    board._arrivals._blurring.join(60)
    board.refresh()
    rows = board.queue("feedback", decided=True) + board.queue("abstained", decided=True)
    new = [board.findings.ids[row] for row in rows if board.from_feedback(row)]
    assert new and not before & {*new}
    board.decide(new[:1], "relabel", "cat", new=False)
    accepted = (project / inbox.ACCEPTED / f"{new[0]}.png").read_bytes()
    assert not images.decode(accepted, max_pixels=None).any()
