"""The review page lets in whoever has the token of the printed address, and nobody else."""

import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import ROOT
from fastapi.testclient import TestClient
from projects import REVIEW, TOKEN, twelve

from pipeline.review import entry
from pipeline.review.app import create_app
from pipeline.storage import table

PATHS = ["/", "/api/summary", "/api/items", "/api/groups", "/api/growth", "/openapi.json", "/no"]


@pytest.fixture
def stranger(tmp_path: Path) -> TestClient:
    """What another account of the machine gets to see."""
    return TestClient(
        create_app(twelve(tmp_path), "Ada", TOKEN), base_url=REVIEW, follow_redirects=False
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"authorization": "Bearer guessed"},
        {"authorization": "Bearer "},
        {"authorization": TOKEN},
        {"cookie": "fieldmark-review-8421="},
        {"cookie": f"fieldmark-review-9000={TOKEN}"},
    ],
)
def test_without_the_token_there_is_nothing_to_see(
    stranger: TestClient, path: str, shown: dict[str, str]
) -> None:
    answer = stranger.get(path, headers=shown)
    assert answer.status_code == 403
    assert "cat" not in answer.text
    assert "prints" in answer.text


def test_without_the_token_no_picture_is_seen_and_nothing_is_decided(
    stranger: TestClient, tmp_path: Path
) -> None:
    (id, *_) = table.read(tmp_path / "data" / "label-check")["id"]
    assert stranger.get(f"/api/images/{id}").status_code == 403
    body = {"ids": [id], "decision": "drop"}
    assert stranger.post("/api/decisions", json=body).status_code == 403
    assert stranger.post(f"/api/decisions?token={TOKEN}", json=body).status_code == 403
    assert not (tmp_path / "data" / "decisions").exists()


@pytest.mark.parametrize("guess", ["", "guessed", TOKEN[:-1], f"{TOKEN}x", "%ff", "é"])
def test_a_wrong_token_in_the_address_gets_no_cookie(stranger: TestClient, guess: str) -> None:
    answer = stranger.get(f"/?token={guess}")
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_token_moves_from_the_address_into_a_cookie_that_no_script_reads(
    stranger: TestClient,
) -> None:
    first = stranger.get(f"/?token={TOKEN}")
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    assert first.headers["referrer-policy"] == "no-referrer"
    assert first.headers["cache-control"] == "no-store"
    page = stranger.get("/")
    assert page.status_code == 200
    assert TOKEN not in page.text
    assert stranger.get("/api/summary").json()["by"] == "Ada"


def test_the_token_is_kept_for_this_account_alone_and_stays_through_a_restart(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".fieldmark" / "review-token"
    first = entry.token(file)
    assert len(first) >= 43
    assert entry.token(file) == first
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]
    file.unlink()
    assert entry.token(file) != first


def test_a_browser_is_started_with_an_address_that_shows_no_token(tmp_path: Path) -> None:
    file = tmp_path / ".fieldmark" / "review.html"
    started_with = entry.leading_page(file, REVIEW, TOKEN)
    assert TOKEN not in started_with
    assert Path(urlsplit(started_with).path) == file
    assert entry.address(REVIEW, TOKEN) in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_command_prints_an_address_that_opens_and_nothing_else_does(tmp_path: Path) -> None:
    command = ["-m", "pipeline.cli", "review", "--no-browser", "--by", "Ada", "--port", "0"]
    served = subprocess.Popen(
        [sys.executable, *command],
        cwd=twelve(tmp_path),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with served:
        assert served.stdout is not None
        url = next(word for word in served.stdout.readline().split() if word.startswith("http"))
        bare = url.partition("?")[0]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{bare}api/summary")
        (token,) = parse_qs(urlsplit(url).query)["token"]
        shown = {"Authorization": f"Bearer {token}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{bare}api/summary", headers=shown)
        ) as answer:
            assert json.load(answer)["by"] == "Ada"
        served.send_signal(signal.SIGINT)
