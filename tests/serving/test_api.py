"""The server's interface: what it answers, what it refuses and with which word, and that nothing of
the machine shows.
"""

import asyncio
import base64
import json
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import yaml
from conftest import ROOT
from fastapi.testclient import TestClient
from holding import LONG, wait_until
from PIL import Image, PngImagePlugin
from traffic import MONITOR

from pipeline.config.schema import Serving
from pipeline.exported import model
from pipeline.serving import app as serving_app
from pipeline.serving import explanation, feedback, keys
from pipeline.serving.keys import Keys
from pipeline.serving.monitoring import watch
from pipeline.serving.plan import Plan, application
from pipeline.serving.swap import Folder

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
BASE = "http://127.0.0.1"


def settings(**changes: Any) -> Serving:
    return Serving.model_validate(
        yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text()) | changes
    )


def picture(colour: str = "red", kind: str = "JPEG", **how: Any) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 48), COLOURS[colour]).save(buffer, kind, **how)
    return buffer.getvalue()


def noise(kind: str, **how: Any) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((64, 48), 90).save(buffer, kind, **how)
    return buffer.getvalue()


def zeroed(data: bytes) -> bytes:
    """In the last third, which are pixels."""
    start = len(data) * 2 // 3
    return data[:start] + bytes(99) + data[start + 99 :]


def client(export: Path, *, known: Keys | None = None, **changes: Any) -> TestClient:
    made = serving_app.create(
        settings(**changes), Folder(export, "fieldmark"), keys=known, explain=explanation.explain
    )
    return TestClient(made, base_url=BASE, raise_server_exceptions=False)


@pytest.fixture
def api(export: Path) -> Iterator[TestClient]:
    with client(export) as made:
        yield made


def is_problem(answer: httpx.Response, status: int, word: str = "") -> bool:
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} == told.keys()
    return answer.status_code == told["status"] == status and word in told["detail"]


def test_every_way_of_sending_gets_the_same_answer(api: TestClient) -> None:
    data = picture("green")
    answers = [
        api.post("/predict", files={"files": ("a.jpg", data, "image/jpeg")}),
        api.post("/predict", content=data, headers={"content-type": "image/jpeg"}),
        api.post("/predict", content=data, headers={"content-type": "application/octet-stream"}),
        api.post("/predict", json={"images": [base64.b64encode(data).decode()]}),
    ]
    said = [answer.json()["predictions"] for answer in answers]
    for one in said:
        assert one[0].pop("id")
    assert all(one == said[0] for one in said)
    assert [chance["class"] for chance in said[0][0]["top"]][0] == "green"


def test_the_set_of_classes_that_may_be_right_is_named_when_asked(export: Path) -> None:
    """`least_probability` of the tiny export is 0.2: no other class comes near it on a plain
    picture, and all do on a grey one.
    """
    grey = BytesIO()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(grey, "PNG")
    with client(export) as api:
        sets = [
            api.post(f"/predict{query}", files={"files": data}).json()["predictions"][0]["set"]
            for query in ("", "?set=true")
            for data in (picture("green"), grey.getvalue())
        ]
        assert api.get("/model").json()["thresholds"]["sets"]["level"] == 0.9
    assert sets[:2] == [None, None]
    assert sets[2] == ["green"]
    assert sorted(sets[3]) == ["blue", "green", "red"]


def test_an_export_from_before_sets_still_answers_and_has_none(export: Path) -> None:
    thresholds = json.loads((export / "thresholds.json").read_text())
    del thresholds["sets"]
    (export / "thresholds.json").write_text(json.dumps(thresholds))
    with client(export) as api:
        answer = api.post("/predict?set=true", files={"files": picture("green")})
    assert (answer.status_code, answer.json()["predictions"][0]["set"]) == (200, None)


PLAIN = base64.b64encode(picture()).decode()
URL_SAFE = PLAIN.replace("+", "-").replace("/", "_")


@pytest.mark.parametrize(
    "text",
    [
        f"data:image/jpeg;base64,{PLAIN}",
        f"data:;base64,{URL_SAFE}",
        "data:image/jpeg;base64," + PLAIN.replace("+", "%2B").replace("=", "%3D"),
        base64.encodebytes(picture()).decode(),
        PLAIN.replace("A", "A\r\n "),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        PLAIN.rstrip("="),
    ],
)
def test_base64_is_read_as_programs_write_it(api: TestClient, text: str) -> None:
    answer = api.post("/predict", json={"images": [PLAIN, text]})
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["predictions"]
    assert first["top"] == second["top"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("https://example.org/a.jpg", "image 2 of 2: this is an address"),
        ("data:image/jpeg,%FF%D8", "this data: URL is not in base64"),
        ("data:image/jpeg;base64", "no comma"),
        (PLAIN[:41].rstrip("="), "41 letters are not whole bytes"),
        ("/9j/*4AA", "'*' is not a letter of base64"),
        ("/9j/é4AA", "'é' is not a letter of base64"),
        ("/9==j/AA", "'=' before the end is not a letter"),
    ],
)
def test_what_is_no_base64_is_told_what_is_wrong(api: TestClient, text: str, word: str) -> None:
    assert is_problem(api.post("/predict", json={"images": [PLAIN, text]}), 422, word)


def test_several_images_are_answered_in_their_order_and_as_the_engine_itself_does(
    api: TestClient, export: Path
) -> None:
    names = ["blue", "red", "green", "red"]
    answer = api.post(
        "/predict?top_k=2",
        files=[("files", (f"{i}.png", picture(name, "PNG"))) for i, name in enumerate(names)],
    ).json()
    direct = model.load(export)
    probs = direct.predict(np.stack([direct.prepare(picture(name, "PNG")) for name in names])).probs
    assert [said["top"][0]["class"] for said in answer["predictions"]] == names
    for said, row in zip(answer["predictions"], probs, strict=True):
        assert len(said["top"]) == 2
        assert said["top"][0]["prob"] == pytest.approx(float(row.max()), abs=1e-4)
    assert answer["model"] == {"name": "fieldmark", "version": model.fingerprint(export)[:12]}


def test_it_abstains_when_unsure_and_marks_what_is_strange(api: TestClient) -> None:
    def said(pixels: tuple[int, int, int]) -> dict[str, Any]:
        buffer = BytesIO()
        Image.new("RGB", (40, 40), pixels).save(buffer, "PNG")
        return api.post(
            "/predict", content=buffer.getvalue(), headers={"content-type": "image/png"}
        ).json()["predictions"][0]

    grey, white, red = said((90, 90, 90)), said((255, 255, 255)), said((200, 0, 0))
    assert (grey["abstain"], grey["ood"]) == (True, False)
    assert white["ood"] and not red["ood"] and not red["abstain"]


@pytest.mark.parametrize(
    ("how", "status", "word"),
    [
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "multipart"),
        ({"content": b"", "headers": {"content-type": "image/png"}}, 422, "no image"),
        (
            {"content": b"noise", "headers": {"content-type": "image/png"}},
            422,
            "not an image of a known format",
        ),
        ({"content": picture()[:300], "headers": {"content-type": "image/png"}}, 422, "truncated"),
        (
            {"content": zeroed(noise("JPEG")), "headers": {"content-type": "image/jpeg"}},
            422,
            "a part of the JPEG is missing or overwritten",
        ),
        (
            {"content": zeroed(noise("PNG")), "headers": {"content-type": "image/png"}},
            422,
            "a checksum of the PNG (chunk IDAT) is wrong",
        ),
        (
            {
                "content": noise("TIFF", tiffinfo={262: 4}),
                "headers": {"content-type": "image/tiff"},
            },
            422,
            "photometric interpretation 4",
        ),
        (
            {"content": picture(kind="PPM"), "headers": {"content-type": "image/png"}},
            422,
            "not an image of a known format",
        ),
        (
            {
                "content": b"\0\0\0\x18ftypheic" + bytes(64),
                "headers": {"content-type": "image/heic"},
            },
            422,
            "HEIC, for which no decoder",
        ),
        ({"json": {"images": []}}, 422, "images"),
        ({"json": {"images": ["no base64!"]}}, 422, "base64"),
        ({"json": {"images": [base64.b64encode(picture()).decode(), "bm8="]}}, 422, "image 2 of 2"),
        (
            {
                "content": b'{"images": [' + b"1," * 90_000 + b"1]}",
                "headers": {"content-type": "application/json"},
            },
            413,
            "limit is 4",
        ),
        (
            {
                "content": b'{"images": ' + b"[" * 90_000,
                "headers": {"content-type": "application/json"},
            },
            422,
            "recursion",
        ),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "JSON"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form-data"),
        ({"data": {"files": "text"}}, 415, "multipart"),
        ({"files": [("files", ("a", picture()))] * 5}, 413, "limit is 4"),
        ({"json": {"images": [base64.b64encode(picture()).decode()] * 5}}, 413, "limit is 4"),
        ({"content": b"x" * 300_000, "headers": {"content-type": "image/png"}}, 413, "0.2 MB"),
        (
            {
                "content": picture(),
                "headers": {"content-type": "image/png"},
                "params": {"top_k": 0},
            },
            422,
            "top_k",
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    export: Path, how: dict[str, Any], status: int, word: str
) -> None:
    with client(export, max_images=4, max_upload_mb=0.2) as api:
        answer = api.post("/predict", **how)
    assert is_problem(answer, status, word), answer.text


def test_too_many_pixels_are_refused_by_the_header_alone(export: Path) -> None:
    with client(export) as api:
        answer = api.post("/predict", content=bomb(), headers={"content-type": "image/png"})
    assert is_problem(answer, 422, "3600 megapixels exceed the limit of 50")


def test_unknown_paths_and_methods_are_problems_too(api: TestClient) -> None:
    assert is_problem(api.get("/nothing"), 404)
    refused = api.get("/predict")
    assert is_problem(refused, 405)
    assert refused.headers["allow"] == "POST"


def test_the_model_its_health_and_its_figures_are_told(api: TestClient) -> None:
    api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"})
    about = api.get("/model").json()
    assert about["classes"] == ["red", "green", "blue"]
    assert about["refused"] is None
    assert api.get("/health/live").json() == {"status": "live"}
    assert api.get("/health/ready").status_code == 200
    figures = api.get("/metrics").text
    assert 'fieldmark_requests_total{status="200"} 1.0' in figures
    assert "fieldmark_batch_images_count 1.0" in figures
    page = api.get("/docs").text
    assert "https://" not in page
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page)
    assert len(loaded) >= 2 and all(api.get(file).status_code == 200 for file in loaded)


def test_not_ready_while_it_drains(api: TestClient) -> None:
    api.app.state.server.draining.value = True  # type: ignore[attr-defined]
    assert is_problem(api.get("/health/ready"), 503)
    assert api.get("/health/live").status_code == 200
    assert (
        api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"}).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": BASE, "sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_pages_from_elsewhere_do_not_reach_it(
    api: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = api.get("/model", headers=headers)
    assert answer.status_code == status


def test_only_known_keys_get_in_and_only_so_often(export: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = keys.new("line-3", file)
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with client(export, known=Keys(keys.load(file), 0.01, 4), host="0.0.0.0") as api:
        assert is_problem(api.get("/model"), 401, "needed")
        assert is_problem(api.get("/model", headers={"x-api-key": "guessed"}), 401, "not known")
        assert api.get("/health/ready").status_code == 200
        as_password = base64.b64encode(f"ada:{key}".encode()).decode()
        ways = [
            {"x-api-key": key},
            *(
                {"authorization": way}
                for way in (f"Bearer {key}", f"bearer {key}", f"Basic {as_password}")
            ),
        ]
        assert [api.get("/model", headers=way).status_code for way in ways] == [200] * 4
        refused = api.get("/model", headers=ways[0])
        assert is_problem(refused, 429, "faster")
        assert int(refused.headers["retry-after"]) > 1
        assert [
            api.post("/predict", headers=way).status_code
            for way in ({"x-api-key": "guessed"}, ways[0])
        ] == [401, 429]
        figures = api.app.state.server.counters.registry  # type: ignore[attr-defined]
        assert [
            figures.get_sample_value("fieldmark_requests_total", {"status": status})
            for status in ("401", "429")
        ] == [1, 1]


def test_a_browser_is_told_to_ask_for_the_key_of_the_monitor_page_alone(export: Path) -> None:
    with client(export, known=Keys({"hash": "ada"}, 1.0, 5), host="0.0.0.0") as api:
        refused = [
            api.get(path, headers={"authorization": "Basic !"}) for path in ("/monitor", "/model")
        ]
    assert [answer.status_code for answer in refused] == [401, 401]
    # the front page asks for a key itself
    assert [answer.headers["www-authenticate"].partition(" ")[0] for answer in refused] == [
        "Basic",
        "Bearer",
    ]


def test_a_bucket_fills_again() -> None:
    bucket = Keys({"one": "ada", "another": "eve"}, rate_per_s=2.0, burst=2)
    assert [bucket.wait_s("ada", 0.0) for _ in range(3)] == [0, 0, 0.5]
    assert bucket.wait_s("ada", 0.5) == 0
    assert bucket.wait_s("eve", 0.5) == 0


def slow(api: TestClient) -> threading.Event:
    """Make the engine wait for an event."""
    now, go = api.app.state.server.current.model, threading.Event()  # type: ignore[attr-defined]
    quick = now.engine
    now.engine = type(quick)(quick.name, lambda images: (go.wait(LONG), quick.run(images))[1])
    return go


def test_what_does_not_fit_is_turned_away(export: Path) -> None:
    with client(export, max_waiting=6, max_batch=8, timeout_s=LONG) as api:
        go = slow(api)
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(
                api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"})
            )

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) >= 4, "four are turned away")
        assert all(
            is_problem(answer, 429) and answer.headers["retry-after"] == "1"
            for answer in answers[:4]
        )
        go.set()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] * 6 + [429] * 4
        assert "fieldmark_inside_images 0.0" in api.get("/metrics").text


def test_explanations_have_a_lane_of_their_own_with_an_end(export: Path) -> None:
    with client(export, max_explained=2, timeout_s=LONG) as api:
        go = slow(api)
        files = [("files", ("a", picture()))]
        threads = [
            threading.Thread(
                target=api.post, args=("/predict?explain=true",), kwargs={"files": files}
            )
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: api.app.state.server.predictor._explaining == 2, "the lane is full")  # type: ignore[attr-defined]
        refused = api.post("/predict?explain=true", files=files)
        assert is_problem(refused, 429, "explain=true") and refused.headers["retry-after"] == "2"
        assert is_problem(
            api.post("/predict?explain=true", files=files * 3), 413, "at most 2 images"
        )
        go.set()
        assert api.post("/predict", files=files).json()["predictions"][0]["explanation"] is None
        for thread in threads:
            thread.join()
        assert api.post("/predict?explain=true", files=files).json()["predictions"][0][
            "explanation"
        ]


def test_an_explanation_that_takes_too_long_is_left_out_and_leaves_its_lane(export: Path) -> None:
    """Only the engine's many images at once are slow: those of an explanation."""
    with client(export, timeout_s=1.0, max_explained=1) as api:
        quick = api.app.state.server.current.model.engine  # type: ignore[attr-defined]
        api.app.state.server.current.model.engine = type(quick)(
            "slow", lambda images: (time.sleep(0.2 * (len(images) > 1)), quick.run(images))[1]
        )  # type: ignore[attr-defined]
        answers = [
            api.post("/predict?explain=true", files=[("files", ("a", picture()))]) for _ in range(2)
        ]
        assert [answer.json()["predictions"][0]["explanation"] for answer in answers] == [
            None,
            None,
        ]


def test_a_request_that_takes_too_long_is_given_up_and_leaves_its_place(export: Path) -> None:
    with client(export, timeout_s=1.0) as api:
        go = slow(api)
        assert is_problem(
            api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"}), 504
        )
        go.set()
        assert "fieldmark_inside_images 0.0" in api.get("/metrics").text
        assert (
            api.post(
                "/predict", content=picture(), headers={"content-type": "image/jpeg"}
            ).status_code
            == 200
        )


def test_a_failure_inside_says_nothing_of_the_inside(export: Path) -> None:
    with client(export) as api:
        now = api.app.state.server.current.model  # type: ignore[attr-defined]

        def broken(images: np.ndarray) -> list[np.ndarray]:
            raise RuntimeError(f"/secret/path {images.shape}")

        now.engine = type(now.engine)("broken", broken)
        answer = api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"})
        assert is_problem(answer, 500)
        assert "secret" not in answer.text and "Traceback" not in answer.text


def test_each_prediction_and_each_error_leaves_a_record(export: Path) -> None:
    records: list[dict[str, Any]] = []
    refused: list[int] = []

    class Kept:
        def put(self, record: dict[str, Any], /) -> bool:
            records.append(record)
            return True

        def refuse(self, version: str, status: int, /) -> None:
            refused.append(status)

        def label(self, id: str, label: str, /) -> bool:
            raise AssertionError("nobody said anything")

    made = serving_app.create(settings(), Folder(export, "fieldmark"), recorder=Kept())
    with TestClient(made, base_url=BASE) as api:
        said = api.post(
            "/predict", content=picture("blue"), headers={"content-type": "image/jpeg"}
        ).json()["predictions"][0]
        api.post("/predict", content=b"noise", headers={"content-type": "image/jpeg"})
    (good,) = records
    assert (good["id"], good["class"], good["status"], good["ood"]) == (
        said["id"],
        "blue",
        200,
        said["ood_score"],
    )
    assert (
        len(good["sketch"]) == 16
        and 0 < good["brightness"] < 1
        and good["sharpness"] >= 0
        and good["latency_ms"] > 0
    )
    assert refused == [422]


def hostile() -> list[tuple[str, bytes]]:
    """Forty uploads that a stranger might try."""
    whole, png = picture(), picture(kind="PNG")
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "x" * 5_000_000, zip=True)
    random = np.random.default_rng(0)
    made = [(f"jpeg cut at {i}", whole[: len(whole) * i // 12]) for i in range(1, 12)]
    made += [(f"png cut at {i}", png[: len(png) * i // 6]) for i in range(1, 6)]
    for i in range(8):
        bent = bytearray(whole if i % 2 else png)
        for place in random.integers(8, len(bent), 12):
            bent[place] = int(random.integers(256))
        made.append((f"bent {i}", bytes(bent)))
    made += [
        ("pixel bomb", bomb()),
        ("text bomb", picture(kind="PNG", pnginfo=text)),
        ("one pixel wide", strip(1, 60_000)),
        ("one pixel high", strip(60_000, 1)),
        ("zeros", bytes(1000)),
        ("html", b"<script>alert(1)</script>"),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n"),
        ("zip", b"PK\x03\x04" + bytes(100)),
        ("elf", b"\x7fELF" + bytes(100)),
        ("pickle", b"\x80\x04\x95\x10\x00\x00\x00"),
        ("gif of no size", b"GIF89a\0\0\0\0\0\0\0;"),
        ("bmp of 4 GB", b"BM" + bytes(16) + b"\xff\xff\xff\x7f\xff\xff\xff\x7f" + bytes(40)),
        (
            "tiff that points at itself",
            b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
        ),
        ("webp of nothing", b"RIFF\x04\0\0\0WEBP"),
        ("polyglot", png + b"PK\x03\x04<?php system('id'); ?>"),
    ]
    return made


def bomb() -> bytes:
    """A PNG that says it is 60,000 pixels wide and high."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        picture(kind="PNG")[:12]
        + head
        + struct.pack(">I", zlib.crc32(head))
        + picture(kind="PNG")[33:]
    )


def strip(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.filterwarnings("default")  # Pillow's notes on damaged files
def test_forty_hostile_uploads_break_nothing_and_tell_nothing(
    api: TestClient, export: Path
) -> None:
    cases = hostile()
    assert len(cases) == 40
    for name, data in cases:
        answer = api.post("/predict", files={"files": ("../../etc/passwd\0", data, "image/jpeg")})
        assert answer.status_code in (200, 413, 422), (name, answer.text)
        assert not any(
            word in answer.text
            for word in (str(export), "/root", "Traceback", "0x", ".py", "passwd")
        ), (name, answer.text)
    assert (
        api.post("/predict", content=picture(), headers={"content-type": "image/jpeg"}).status_code
        == 200
    )


@pytest.mark.filterwarnings("default")
def test_requests_made_up_from_the_document_find_no_fault(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import schemathesis
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as limits
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    monkeypatch.chdir(tmp_path)  # where images are kept
    whole = Plan(
        settings(hosts=["testserver"]),
        MONITOR,
        "fieldmark",
        export,
        "",
        keep=True,
        keys=None,
        records=f"sqlite:///{tmp_path / 'monitor.db'}",
    )
    made = application(whole)
    document = schemathesis.openapi.from_asgi("/openapi.json", made)
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    asked = set()
    for operation in document.get_all_operations():
        found = operation.ok()

        @limits(
            max_examples=40,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=found.as_strategy())
        def each(case: Any) -> None:
            answer = case.call()
            case.validate_response(answer, checks=checks)

        each()
        asked.add(found.label)
    told = {
        "GET /model",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /monitor",
        "GET /feedback",
    }
    assert asked == {"POST /predict", "POST /feedback", *told}


def test_the_document_of_the_whole_server_names_no_schema_that_it_lacks(export: Path) -> None:
    made = serving_app.create(
        settings(), Folder(export, "fieldmark"), routers=[feedback.router(None)]
    )
    watch(made, MONITOR, f"sqlite:///{export / 'monitor.db'}")
    document = made.openapi()
    named = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert "Problem" in named and set(named) <= document["components"]["schemas"].keys()


def test_an_explanation_is_late_after_a_quarter_of_its_time(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.serving.batching import Batcher

    left, stand_aside = list[float](), Batcher.stand_aside

    async def noting(batcher: Batcher, loaded: Any, images: np.ndarray, late_at: float) -> Any:
        left.append(late_at - asyncio.get_running_loop().time())
        return await stand_aside(batcher, loaded, images, late_at)

    monkeypatch.setattr(Batcher, "stand_aside", noting)
    with client(export, timeout_s=400.0) as api:
        assert api.post("/predict?explain=true", files={"files": ("a", picture())}).json()[
            "predictions"
        ][0]["explanation"]
    assert left == sorted(left, reverse=True) and 0 < left[-1] <= left[0] <= 100
