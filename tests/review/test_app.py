"""The review page's HTTP interface: the worst first, every decision on disk at once, undone one by
one, for this machine only.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from fastapi.testclient import TestClient
from packing import write_images
from projects import HOSTILE, REVIEW, TOKEN, WITH_TOKEN, browser_of, twelve

from pipeline import FieldmarkError
from pipeline.labels import decisions
from pipeline.review.app import create_app
from pipeline.review.board import Board
from pipeline.storage import store, table


@pytest.fixture
def checked(tmp_path: Path) -> Path:
    return twelve(tmp_path)


@pytest.fixture
def ada(checked: Path) -> TestClient:
    return browser_of(checked, "Ada")


def ids(folder: Path) -> list[str]:
    return table.read(folder / "data" / "label-check")["id"].tolist()


def said(folder: Path) -> list[list[str]]:
    return (
        decisions.read(folder / "data" / "decisions")[["id", "decision", "label", "by"]]
        .to_numpy()
        .tolist()
    )


def decide(page: TestClient, id: str, decision: str, label: str = "", **more: Any) -> Any:
    return page.post(
        "/api/decisions", json={"ids": [id], "decision": decision, "label": label, **more}
    )


def queue(page: TestClient, kind: str) -> list[str]:
    return [
        item["id"] for item in page.get("/api/items", params={"kind": kind, "decided": True}).json()
    ]


def test_the_most_doubtful_label_comes_first(ada: TestClient, checked: Path) -> None:
    assert queue(ada, "suspect") == [ids(checked)[i] for i in (3, 7, 0)]


def test_each_kind_of_finding_is_a_queue(ada: TestClient, checked: Path) -> None:
    all_ids = ids(checked)
    assert queue(ada, "duplicate") == [all_ids[4], all_ids[5]]  # not 1 and 2, whose labels agree
    assert queue(ada, "blur") == [all_ids[1], all_ids[2]]
    assert queue(ada, "outlier") == [all_ids[8], all_ids[6]]  # the strangest first
    assert queue(ada, "unlabelled") == [all_ids[10], all_ids[11]]


def test_an_item_says_what_there_is_to_know(ada: TestClient, checked: Path) -> None:
    item = ada.get("/api/items", params={"kind": "duplicate"}).json()[0]
    assert (item["label"], item["suggested_label"], item["width_px"]) == ("cat", "cat", 40)
    first, *others = item["neighbours"]
    assert (first["id"], first["label"], first["twin"]) == (ids(checked)[5], "dog", True)
    near = store.read_array(checked / "data" / "label-check" / "neighbours.npy")[4]
    assert [other["id"] for other in others] == [ids(checked)[i] for i in near if i != 5]


def test_a_proposal_says_how_sure_it_is(checked: Path) -> None:
    app = create_app(checked, "Ada", TOKEN)
    page = TestClient(app, base_url=REVIEW, headers=WITH_TOKEN)
    page.get("/api/groups")
    app.state.learner.wait()
    (group,) = page.get("/api/groups", params={"n": 1}).json()
    items = page.get(
        "/api/items", params={"id": [member["id"] for member in group["members"]]}
    ).json()
    assert {item["suggested_label"] for item in items} == {group["label"]}
    assert (
        np.mean([item["chance"] for item in items]) == pytest.approx(group["probability"])
        and group["probability"] > 0
    )
    assert all(
        item["chance"] == 0 for item in page.get("/api/items", params={"kind": "suspect"}).json()
    )


def test_a_decision_is_on_disk_before_the_answer(ada: TestClient, checked: Path) -> None:
    id = ids(checked)[3]
    done = decide(ada, id, "relabel", "dog").json()
    assert said(checked) == [[id, "relabel", "dog", "Ada"]]
    assert done["summary"]["kinds"]["suspect"] == {"n": 3, "n_decided": 1, "expected_wrong": 2.25}
    assert [item["id"] for item in ada.get("/api/items", params={"kind": "suspect"}).json()] == [
        ids(checked)[i] for i in (7, 0)
    ]


def test_asking_twice_writes_once(ada: TestClient, checked: Path) -> None:
    first, second = (decide(ada, ids(checked)[3], "drop").json() for _ in range(2))
    assert len(said(checked)) == 1
    assert first["when"] == second["when"]


def test_relabelling_to_the_given_label_is_keeping_it(ada: TestClient, checked: Path) -> None:
    decide(ada, ids(checked)[0], "relabel", "cat")
    assert said(checked) == [[ids(checked)[0], "keep", "", "Ada"]]


def test_undo_takes_back_step_by_step_and_tells_the_file(ada: TestClient, checked: Path) -> None:
    id, other = ids(checked)[:2]
    for each, what in ((id, "keep"), (other, "drop"), (id, "unsure")):
        decide(ada, each, what)
    whens = []
    while when := ada.get("/api/summary").json()["last"]["when"]:
        whens.append(ada.post("/api/undo", json={"when": when}).json()["ids"])
    assert whens == [[id], [other], [id]]
    assert [line[1] for line in said(checked)] == [
        "keep",
        "drop",
        "unsure",
        "withdraw",
        "withdraw",
        "withdraw",
    ]
    assert queue(ada, "decided") == []


def test_what_was_heard_line_by_line_is_what_the_file_says(
    checked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards, random = [Board(checked, by) for by in ("Ada", "Bob")], np.random.default_rng(0)
    for turn in range(20):
        board, some = boards[turn // 3 % 2], random.choice(ids(checked)[:4], 2, replace=False)
        if turn % 5 == 4:
            board.undo(board.last_action()[0])
        else:
            board.decide([*some], random.choice(["keep", "drop", "unsure"]), "", new=False)
    fresh = Board(checked, "Eve")
    boards[0].refresh()
    assert boards[0].votes == fresh.votes and len(fresh.votes) == 4
    monkeypatch.setattr(
        decisions, "read", lambda _: pytest.fail("thousands of lines would be read again for one")
    )
    boards[0].decide(ids(checked)[:1], "drop", "", new=False)
    assert [vote.decision for vote in boards[0].votes[0] if vote.by == "Ada"] == ["drop"]


def test_undoing_twice_takes_back_once(ada: TestClient, checked: Path) -> None:
    decide(ada, ids(checked)[0], "keep")
    when = decide(ada, ids(checked)[0], "drop").json()["when"]
    assert [ada.post("/api/undo", json={"when": when}).json()["ids"] for _ in range(2)] == [
        [ids(checked)[0]],
        [],
    ]
    assert (
        ada.get("/api/items", params={"kind": "decided", "decided": True}).json()[0]["votes"][0][
            "decision"
        ]
        == "keep"
    )


def test_a_whole_group_is_one_action(ada: TestClient, checked: Path) -> None:
    group = ids(checked)[9:12]
    done = ada.post(
        "/api/decisions", json={"ids": group, "decision": "relabel", "label": "dog"}
    ).json()
    assert len(said(checked)) == 3
    assert sorted(ada.post("/api/undo", json={"when": done["when"]}).json()["ids"]) == sorted(group)


def test_people_who_differ_see_it_and_neither_can_undo_the_other(
    ada: TestClient, checked: Path
) -> None:
    bob, id = browser_of(checked, "Bob"), ids(checked)[3]
    decide(ada, id, "keep")
    when = decide(bob, id, "drop").json()["when"]
    item = ada.get("/api/items", params={"kind": "conflict"}).json()[0]
    assert (item["id"], item["conflict"]) == (id, True)
    assert [(vote["by"], vote["decision"]) for vote in item["votes"]] == [
        ("Ada", "keep"),
        ("Bob", "drop"),
    ]
    assert ada.post("/api/undo", json={"when": when}).json()["ids"] == []
    decide(bob, id, "keep")
    assert queue(ada, "conflict") == []


def test_what_an_editor_or_git_changed_is_seen(ada: TestClient, checked: Path) -> None:
    folder = checked / "data" / "decisions"
    folder.mkdir()
    (folder / "labels.csv").write_text(
        f"id,decision,label,by,when\n{ids(checked)[0]},unsure,,Bob,2026-01-31\n"
    )
    assert queue(ada, "unsure") == [ids(checked)[0]]
    (folder / "labels.csv").write_text("id,decision,label,by,when\nbroken\n")
    assert "line 2" in ada.get("/api/summary").json()["detail"]
    (folder / "labels.csv").unlink()
    assert queue(ada, "decided") == []


def test_a_new_label_check_is_seen(ada: TestClient, checked: Path) -> None:
    rows = table.read(checked / "data" / "label-check")
    table.write(rows.assign(suspect=False, extra=""), checked / "data" / "label-check")
    assert queue(ada, "suspect") == []


def test_decisions_that_make_no_sense_are_refused(ada: TestClient, checked: Path) -> None:
    none, id = ids(checked)[10], ids(checked)[0]
    answers = [
        decide(ada, none, "keep"),
        decide(ada, id, "relabel", "fox"),
        decide(ada, "x", "keep"),
        decide(ada, id, "relabel", "a\nb", new=True),
    ]
    assert [answer.status_code for answer in answers] == [409] * 4
    assert decide(ada, id, "maybe").status_code == 422
    assert not (checked / "data" / "decisions").exists()


def test_a_new_class_has_to_be_confirmed(ada: TestClient, checked: Path) -> None:
    assert "confirm" in decide(ada, ids(checked)[0], "relabel", "fox").json()["detail"]
    assert (
        "fox"
        in decide(ada, ids(checked)[0], "relabel", " fox ", new=True).json()["summary"]["classes"]
    )
    assert decide(ada, ids(checked)[1], "relabel", "fox").status_code == 200


@pytest.mark.parametrize("name", ["گربه\u200cها", "👩\u200d🔬"])
def test_a_class_may_be_named_in_a_script_that_joins_letters(
    ada: TestClient, checked: Path, name: str
) -> None:
    assert decide(ada, ids(checked)[0], "relabel", name, new=True).status_code == 200
    assert said(checked) == [[ids(checked)[0], "relabel", name, "Ada"]]


@pytest.mark.parametrize("name", ["\u200d\u200c", "\u202etac", "a\u2028b"])
def test_a_class_that_cannot_be_read_as_it_is_is_refused(
    ada: TestClient, checked: Path, name: str
) -> None:
    assert (
        "visible characters"
        in decide(ada, ids(checked)[0], "relabel", name, new=True).json()["detail"]
    )


def test_every_decision_can_be_undone_by_deleting_the_file(ada: TestClient, checked: Path) -> None:
    given = table.read(checked / "data" / "ingest")
    for id, what in zip(ids(checked), ["drop", "unsure", "keep"], strict=False):
        decide(ada, id, what)
    decide(ada, ids(checked)[5], "relabel", "cat")
    changed = decisions.apply(given, decisions.read(checked / "data" / "decisions"))
    assert changed["label"].tolist() != given["label"].tolist()
    (checked / "data" / "decisions" / "labels.csv").unlink()
    again = decisions.apply(given, decisions.read(checked / "data" / "decisions"))
    pd.testing.assert_frame_equal(again.drop(columns="decision"), given)


def test_pictures_come_untouched_when_small_and_scaled_when_large(checked: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    packed = store.PackedImages(checked / "data" / "ingest")
    big = browser_of(with_image(checked, noise), "Ada").get(
        "/api/images/big", params={"side_px": 300}
    )
    assert big.headers["content-type"] == "image/webp"
    small = browser_of(checked, "Ada").get(f"/api/images/{ids(checked)[0]}")
    assert (small.content, small.headers["content-type"]) == (packed[ids(checked)[0]], "image/png")
    assert browser_of(checked, "Ada").get("/api/images/nothing").status_code == 404


def with_image(folder: Path, pixels: np.ndarray) -> Path:
    from io import BytesIO

    from PIL import Image

    target = BytesIO()
    Image.fromarray(pixels).save(target, "TIFF")
    kept = list(store.read_images(folder / "data" / "ingest"))
    write_images(folder / "data" / "ingest", [*kept, ("big", target.getvalue())])
    return folder


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example:8421", "origin": "http://evil.example:8421"},
    ],
    ids=["other site", "other port", "no origin", "cross-site", "same-site", "rebound name"],
)
def test_another_page_can_neither_write_nor_read(checked: Path, headers: dict[str, str]) -> None:
    page = TestClient(create_app(checked, "Ada", TOKEN), base_url=REVIEW, headers=WITH_TOKEN)
    body = {"ids": [ids(checked)[0]], "decision": "drop"}
    assert page.post("/api/decisions", json=body, headers=headers).status_code in {400, 403}
    assert page.get("/api/summary", headers=headers).status_code in {400, 403}
    assert not (checked / "data" / "decisions").exists()


def test_a_form_of_another_page_is_no_decision(ada: TestClient, checked: Path) -> None:
    body = f'{{"ids": ["{ids(checked)[0]}"], "decision": "drop"}}'
    assert (
        ada.post("/api/decisions", content=body, headers={"content-type": "text/plain"}).status_code
        == 422
    )


def test_the_page_loads_nothing_from_elsewhere(ada: TestClient) -> None:
    answer = ada.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # the name of SVG is not an address
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert answer.headers["x-frame-options"] == "DENY"


def test_hostile_names_come_as_plain_json(ada: TestClient) -> None:
    answer = ada.get("/api/summary")
    assert HOSTILE in answer.json()["classes"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_interface_describes_itself(ada: TestClient) -> None:
    paths = ada.get("/openapi.json").json()["paths"]
    assert "Done" in str(paths["/api/decisions"]["post"]["responses"]["200"])


def test_before_label_check_the_command_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="dvc repro label-check"):
        create_app(tmp_path, "Ada", TOKEN)


def test_the_page_starts_without_torch() -> None:
    heavy = "{'torch', 'mlflow', 'pytorch_lightning', 'sklearn', 'matplotlib'}"
    code = f"import sys, pipeline.review.server; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
