"""Control images among the suspects: a known label tells how careful the reviewer is."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from projects import REVIEW, TOKEN, WITH_TOKEN, square, write_project

from pipeline.labels import decisions
from pipeline.review.app import create_app
from pipeline.storage import table

LABELS = ["cat", "dog"] * 12
SUSPECTS = {i: (LABELS[i + 1], 0.9 - i / 100) for i in range(4)}
N = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_project(tmp_path, LABELS, [square(10 * i) for i in range(24)], SUSPECTS)


def page_of(folder: Path, by: str = "Ada", controls: int = N) -> TestClient:
    app = create_app(folder, by, TOKEN, controls=controls)
    return TestClient(app, base_url=REVIEW, headers={"origin": REVIEW, **WITH_TOKEN})


def suspects(page: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = page.get("/api/items", params={"kind": "suspect"}).json()
    return items


def decide(page: TestClient, item: dict[str, Any], decision: str, label: str = "") -> Any:
    body = {"ids": [item["id"]], "decision": decision, "label": label}
    answer = page.post("/api/decisions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def labels_of(folder: Path) -> dict[str, str]:
    rows = table.read(folder / "data" / "label-check")
    return dict(zip(rows["id"], rows["given_label"], strict=True))


def known(folder: Path) -> set[str]:
    """Images that label-check does not doubt."""
    rows = table.read(folder / "data" / "label-check")
    return set(rows.loc[~rows["suspect"], "id"])


def test_half_of_them_have_a_wrong_label_and_nothing_gives_them_away(folder: Path) -> None:
    page, truth = page_of(folder), labels_of(folder)
    items = suspects(page)
    controls = [item for item in items if item["id"] in known(folder)]
    assert len(items) == 4 + N and len(controls) == N
    planted = [item for item in controls if item["label"] != truth[item["id"]]]
    assert len(planted) == N / 2
    for item in controls:
        wrong = item in planted
        assert (item["suggested_label"] == truth[item["id"]]) == wrong
        assert item["kinds"] == ["suspect"] and item["suspect_score"] > 0.8
    assert all("/" not in item["name"] for item in items)  # the folder is the class
    assert {item["id"] for item in items[:4]} != {
        item["id"] for item in items if item not in controls
    }
    summary = page.get("/api/summary").json()
    assert summary["kinds"]["suspect"]["n"] == 4 + N
    assert summary["kinds"]["suspect"]["expected_wrong"] == pytest.approx(4 * 0.75 + N / 2)


def test_answers_to_them_change_no_label_and_are_told_when_all_are_given(folder: Path) -> None:
    page, truth = page_of(folder), labels_of(folder)
    items = suspects(page)
    controls = [item for item in items if item["id"] in known(folder)]
    planted = [item for item in controls if item["label"] != truth[item["id"]]]
    right = [item for item in controls if item not in planted]
    decide(page, planted[0], "relabel", planted[0]["suggested_label"])
    decide(page, planted[1], "keep")
    decide(page, planted[2], "unsure")
    decide(page, right[0], "keep")
    decide(page, right[1], "relabel", right[1]["suggested_label"])
    assert page.get("/api/summary").json()["care"] == ""
    care = decide(page, right[2], "keep")["summary"]["care"]
    assert "wrong label you corrected 1 and kept 1" in care
    assert "you kept 2 and took the suggestion for 1" in care
    assert len(decisions.read(folder / "data" / "decisions")) == 0
    rest = suspects(page)
    assert {item["id"] for item in rest} == {item["id"] for item in items if item not in controls}
    decide(page, rest[0], "keep")
    assert decisions.read(folder / "data" / "decisions")["id"].tolist() == [rest[0]["id"]]
    assert page_of(folder, "Ben").get("/api/summary").json()["care"] == ""
    assert page_of(folder).get("/api/summary").json()["care"] == care  # after a restart, too


def test_an_answer_to_one_can_be_undone_and_is_noted_once(folder: Path) -> None:
    page = page_of(folder)
    control = next(item for item in suspects(page) if item["id"] in known(folder))
    done = decide(page, control, "keep")
    assert decide(page, control, "keep")["when"] == done["when"]
    assert page.get("/api/summary").json()["last"] == {"when": done["when"], "ids": [control["id"]]}
    assert control["id"] not in {item["id"] for item in suspects(page)}
    undone = page.post("/api/undo", json={"when": done["when"]}).json()
    assert undone["ids"] == [control["id"]]
    assert control["id"] in {item["id"] for item in suspects(page)}
    assert page.get("/api/summary").json()["last"]["when"] == ""


def test_they_stand_alone_where_nothing_is_doubted(tmp_path: Path) -> None:
    folder = write_project(tmp_path, LABELS, [square(10 * i) for i in range(24)], {})
    assert len(suspects(page_of(folder))) == N


def test_without_them_nothing_is_different(folder: Path) -> None:
    page = page_of(folder, controls=0)
    assert {item["id"] for item in suspects(page)}.isdisjoint(known(folder))
    assert "/" in suspects(page)[0]["name"]
