"""Feedback over HTTP: off, nothing is kept; on, pixels are kept without their file, and what a
person says goes with them.
"""

import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ROOT
from exports import tiny_export
from fastapi.testclient import TestClient
from holding import LONG, wait_until
from PIL import Image
from skimage import data as photos

from pipeline.config.schema import Serving
from pipeline.feedback import inbox as inbox
from pipeline.feedback.inbox import Inbox
from pipeline.pixels import faces
from pipeline.serving import app, explanation, feedback, page
from pipeline.serving.feedback import Keeping
from pipeline.serving.swap import Folder

RED, GREY = (220, 30, 30), (90, 90, 90)


def jpeg(colour: tuple[int, int, int], **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "JPEG", **how)
    return buffer.getvalue()


def server(export: Path, *, on: bool, new_classes: bool = True, alone: bool = True) -> TestClient:
    told = yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    cfg = Serving.model_validate(
        told | {"feedback": {"keep": on, "max_mb": 2.0, "new_classes": new_classes}}
    )
    kept = Keeping(cfg.feedback, 10**6, alone=alone) if on else None
    routers = [page.router(), feedback.router(kept)]
    made = app.create(
        cfg, Folder(export, "fieldmark"), explain=explanation.explain, keeping=kept, routers=routers
    )
    return TestClient(made, base_url="http://127.0.0.1")


@pytest.fixture
def keeping(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.chdir(tmp_path)
    with server(export, on=True) as api:
        yield api


def predict(api: TestClient, data: bytes, **params: Any) -> dict[str, Any]:
    answer = api.post(
        "/predict", content=data, headers={"content-type": "image/jpeg"}, params=params
    )
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()["predictions"][0]
    return said


def test_off_nothing_is_written_and_feedback_is_refused(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with server(export, on=False) as api:
        id = predict(api, jpeg(GREY))["id"]
        assert api.get("/feedback").json() == {"on": False, "new_classes": False}
        refused = api.post("/feedback", json={"id": id, "label": "red"})
    assert (refused.status_code, refused.json()["type"]) == (
        404,
        "urn:fieldmark:problem:feedback-off",
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_person_says_waits_with_the_image(keeping: TestClient, tmp_path: Path) -> None:
    id = predict(keeping, jpeg(RED))["id"]
    assert keeping.post("/feedback", json={"id": id, "label": "green"}).status_code == 204
    (waiting,) = Inbox(tmp_path / inbox.FOLDER).waiting()
    assert (waiting.label, waiting.predicted, waiting.model.split("/")[0]) == (
        "green",
        "red",
        "fieldmark",
    )
    assert waiting.confidence > 0.9


def test_an_answer_that_was_right_waits_for_nobody(keeping: TestClient, tmp_path: Path) -> None:
    id = predict(keeping, jpeg(RED))["id"]
    assert keeping.post("/feedback", json={"id": id, "label": "red"}).status_code == 204
    assert Inbox(tmp_path / inbox.FOLDER).waiting() == []


def test_what_the_model_doubts_waits_without_a_word_and_what_it_knows_does_not(
    keeping: TestClient, tmp_path: Path
) -> None:
    predict(keeping, jpeg(RED))
    predict(keeping, jpeg(GREY))
    # its answer comes after all earlier images are written
    keeping.post("/feedback", json={"id": "none", "label": "red"})
    assert [(each.label, each.predicted) for each in Inbox(tmp_path / inbox.FOLDER).waiting()] == [
        ("", "red")
    ]


def test_pixels_are_kept_and_nothing_else_of_the_file(keeping: TestClient, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera that tells"
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    data = jpeg(GREY, exif=exif, comment=b"and so does this")
    id = predict(keeping, data)["id"]
    keeping.post("/feedback", json={"id": id, "label": "red"})
    box = Inbox(tmp_path / inbox.FOLDER)
    kept = Image.open(io.BytesIO(box.png(box.waiting()[0].id)))
    assert kept.info == {} and not kept.getexif()
    assert np.array_equal(np.asarray(kept), np.asarray(Image.open(io.BytesIO(data))))
    stored = (tmp_path / inbox.FOLDER / inbox.FILE).read_bytes()
    assert b"tells" not in stored and b"so does this" not in stored


def test_a_model_that_sees_no_faces_has_none_kept(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    signature = json.loads((export / "signature.json").read_text())
    (export / "signature.json").write_text(
        json.dumps(signature | {"preprocess": signature["preprocess"] | {"blur_faces": True}})
    )
    astronaut = io.BytesIO()
    Image.fromarray(photos.astronaut()).save(astronaut, "PNG")
    with server(export, on=True) as api:
        id = predict(api, astronaut.getvalue())["id"]
        api.post("/feedback", json={"id": id, "label": "person"})
    box = Inbox(tmp_path / inbox.FOLDER)
    kept = np.asarray(Image.open(io.BytesIO(box.png(box.waiting()[0].id))))
    assert np.array_equal(kept, faces.blurred(photos.astronaut()))


def test_an_earlier_answer_on_the_same_photo_can_still_be_objected_to(keeping: TestClient) -> None:
    """The page asks again when it is to show where the model looked."""
    first = predict(keeping, jpeg(RED))["id"]
    predict(keeping, jpeg(RED), explain=True)
    assert keeping.post("/feedback", json={"id": first, "label": "green"}).status_code == 204


def test_a_word_that_overtakes_the_image_of_another_process_waits_for_it(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feedback, "OTHERS_S", LONG)
    came_too_early, keep, say = threading.Event(), Inbox.keep, Inbox.say

    def keep_late(box: Inbox, *image: Any, **how: Any) -> None:
        assert came_too_early.wait(LONG)
        keep(box, *image, **how)

    def say_early(box: Inbox, *word: Any) -> None:
        try:
            say(box, *word)
        except KeyError:
            came_too_early.set()
            raise

    monkeypatch.setattr(Inbox, "keep", keep_late)
    monkeypatch.setattr(Inbox, "say", say_early)
    with server(export, on=True, alone=False) as one, server(export, on=True, alone=False) as other:
        id = predict(one, jpeg(RED))["id"]
        assert other.post("/feedback", json={"id": id, "label": "green"}).status_code == 204
    assert [each.label for each in Inbox(tmp_path / inbox.FOLDER).waiting()] == ["green"]


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ({"id": "unknown", "label": "red"}, 404, "forgotten"),
        ({"id": "a", "label": "  "}, 422, "label"),
        ({"id": "a", "label": "bell\u0007"}, 422, "label"),
        ({"id": "a", "label": "x" * 501}, 422, "invalid"),
        ({"id": "a"}, 422, "invalid"),
    ],
)
def test_feedback_that_makes_no_sense_is_told_why(
    keeping: TestClient, said: dict[str, str], status: int, kind: str
) -> None:
    answer = keeping.post("/feedback", json=said)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:fieldmark:problem:{kind}")


def test_a_word_without_end_is_not_read(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = json.dumps({"id": "a", "label": "x" * 10**6}).encode()
    for on in (True, False):
        with server(export, on=on) as api:
            told = api.post("/feedback", content=long, headers={"content-type": "application/json"})
            untold = api.post(
                "/feedback", content=iter([long]), headers={"content-type": "application/json"}
            )
        assert [
            (answer.status_code, answer.json()["type"].rpartition(":")[2])
            for answer in (told, untold)
        ] == [(413, "too-large"), (411, "length")]


def test_new_classes_are_taken_only_where_they_are_allowed(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with server(export, on=True, new_classes=False) as api:
        id = predict(api, jpeg(RED))["id"]
        assert api.post("/feedback", json={"id": id, "label": "violet"}).status_code == 422
        assert api.post("/feedback", json={"id": id, "label": "blue"}).status_code == 204


def test_a_disk_that_cannot_be_written_costs_no_prediction(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".fieldmark").write_text("a file where a folder is needed")
    with server(export, on=True) as api:
        id = predict(api, jpeg(RED))["id"]
        assert api.post("/feedback", json={"id": id, "label": "green"}).status_code == 404
        assert predict(api, jpeg(RED))["top"][0]["class"] == "red"


@pytest.mark.parametrize("limit", [("WAITING", 1), ("WAITING_MB", 1.5 * len(jpeg(GREY)) / 10**6)])
def test_what_cannot_be_kept_as_fast_as_it_comes_is_left_out_and_that_is_said_once(
    export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    limit: tuple[str, float],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feedback, *limit)
    go, keep = threading.Event(), Inbox.keep
    monkeypatch.setattr(
        Inbox, "keep", lambda box, *image, **how: (go.wait(LONG), keep(box, *image, **how))
    )
    with server(export, on=True) as api:
        for _ in range(6):
            predict(api, jpeg(GREY))
        assert caplog.messages == ["images are not kept: more arrive than can be written"]
        go.set()
        wait_until(lambda: api.app.state.server.keeping._queue.empty(), "what waited is kept")  # type: ignore[attr-defined]
        predict(api, jpeg(GREY))
        wait_until(lambda: len(caplog.messages) == 2, "it has caught up")
    assert re.fullmatch(r"images are kept again; [45] were not kept", caplog.messages[1])


def test_a_class_with_a_long_name_can_be_named(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "x" * 400
    tiny_export(export, ("red", name))
    with server(export, on=True) as api:
        id = predict(api, jpeg(RED))["id"]
        assert api.post("/feedback", json={"id": id, "label": name}).status_code == 204


def test_explanations_come_as_a_picture_of_what_the_model_saw(keeping: TestClient) -> None:
    import base64

    shown = predict(keeping, jpeg(RED), explain=True)["explanation"]
    assert Image.open(io.BytesIO(base64.b64decode(shown))).size == (32, 32)
    assert predict(keeping, jpeg(RED))["explanation"] is None


def test_the_page_loads_nothing_from_elsewhere(keeping: TestClient) -> None:
    answer = keeping.get("/")
    assert (
        "http://" not in answer.text
        and "https://" not in answer.text
        and "<script src" not in answer.text
    )
    policy = answer.headers["content-security-policy"]
    assert (
        "default-src 'none'" in policy
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
    )


def test_the_document_describes_feedback(keeping: TestClient) -> None:
    paths = keeping.get("/openapi.json").json()["paths"]
    assert "/" not in paths
    assert json.dumps(paths["/feedback"]["post"]["requestBody"]).count("Objection") == 1
