"""A person's photo leaves the project, and the others stay."""

import json
import os
import subprocess
from hashlib import md5, sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packing import write_images
from projects import square

from pipeline import FieldmarkError
from pipeline.feedback.inbox import Answer, Inbox
from pipeline.privacy.forget import forget

GONE, STAYS = square(10), square(200)


def name(data: bytes) -> str:
    return sha256(data).hexdigest()


def dvc_keeps(folder: Path) -> None:
    """What `dvc commit` does with a folder: its files and their listing as objects of the cache."""
    entries = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        entries.append({"md5": kept(file.read_bytes()), "relpath": str(file.relative_to(folder))})
    kept(json.dumps(entries).encode(), ".dir")


def kept(data: bytes, suffix: str = "") -> str:
    hexdigest = md5(data, usedforsecurity=False).hexdigest()
    target = Path(".dvc/cache/files/md5", hexdigest[:2], hexdigest[2:] + suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return hexdigest


def outputs(photos: list[bytes]) -> None:
    """Ingest's images, an array beside a table that names them, and pictures in MLflow."""
    write_images(Path("data/ingest"), [(name(photo), photo) for photo in photos])
    for folder in (Path("data/preprocess/dev"), Path("mlruns/1/run/artifacts")):
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"id": list(map(name, photos))}).to_parquet(folder / "table.parquet")
        np.save(folder / "images.npy", np.zeros((len(photos), 4, 4, 3), np.uint8))
    for output in ("data/ingest", "data/preprocess"):
        dvc_keeps(Path(output))


@pytest.fixture
def place(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FIELDMARK_CACHE")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for folder in ("data/images/ann", "data/images/bob", ".fieldmark/cache/features", "data/tune"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("data/images/ann/1.png").write_bytes(GONE)
    Path("data/images/bob/1.png").write_bytes(STAYS)
    Path("data/feedback", f"{name(GONE)}.png").write_bytes(GONE)
    Path(".fieldmark/cache/features/a.npy").write_bytes(b"x")
    Path("data/tune/best.yaml").write_text("lr: 1\n")
    outputs([STAYS])
    outputs([GONE, STAYS])
    return project


def files() -> set[str]:
    """Every file that the project holds, less git's and DVC's own."""
    found = {str(path) for path in Path().rglob("*") if path.is_file()}
    return {path for path in found if not path.startswith((".git/", ".dvc/tmp/"))}


def holding(data: bytes) -> list[str]:
    """Files that hold the photo's bytes, or its id."""
    marks = (data, name(data).encode())
    return [file for file in files() if any(mark in Path(file).read_bytes() for mark in marks)]


def test_without_yes_nothing_changes(place: Path) -> None:
    before = files()
    account = forget([name(GONE)], yes=False)
    assert files() == before
    assert "would remove: data/images/ann/1.png (the photo)" in account
    assert "would remove: data/ingest (a stage's output)" in account
    assert account.endswith("nothing was changed; --yes removes it")


def test_the_photo_and_all_that_shows_it_is_gone_and_the_rest_is_there(place: Path) -> None:
    forget([name(GONE)], yes=True)
    assert holding(GONE) == []
    left = files()
    assert {"data/images/bob/1.png", "data/tune/best.yaml", "conf/config.yaml"} <= left
    assert not {
        file for file in left if file.startswith((".fieldmark/cache", "mlruns", "data/pre"))
    }
    # what was kept of the images before the photo came
    listings = [json.loads(file.read_bytes()) for file in Path(".dvc/cache").rglob("*.dir")]
    objects = {entry["md5"] for listing in listings for entry in listing}
    assert len(listings) == 2
    assert all(Path(".dvc/cache/files/md5", one[:2], one[2:]).exists() for one in objects)


def test_a_second_time_finds_nothing(place: Path) -> None:
    forget([name(GONE)], yes=True)
    left = files()
    assert "nothing here holds them" in forget([name(GONE)], yes=True)
    assert files() == left


def test_a_run_that_was_killed_is_finished_by_the_next(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.privacy import forget as module

    removed: list[Path] = []
    remove = module._remove

    def killed(path: Path) -> None:
        if len(removed) == 3:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    monkeypatch.setattr(module, "_remove", killed)
    with pytest.raises(KeyboardInterrupt):
        forget([name(GONE)], yes=True)
    assert Path("data/images/ann/1.png").exists()  # the person's own file is last
    monkeypatch.setattr(module, "_remove", remove)
    forget([name(GONE)], yes=True)
    assert holding(GONE) == []


def test_a_photo_may_be_named_by_its_file(place: Path) -> None:
    assert f"photo {name(GONE)}" in forget(["data/images/ann/1.png"], yes=False)


@pytest.mark.parametrize("photo", ["ann", "data/images/none.png", name(GONE)[:20]])
def test_what_is_neither_a_file_nor_an_id_is_refused(photo: str, place: Path) -> None:
    with pytest.raises(FieldmarkError, match="neither a photo's file nor its id"):
        forget([photo], yes=True)
    assert Path("data/images/ann/1.png").exists()


def test_feedback_that_waits_is_found_by_the_upload_too(place: Path) -> None:
    box = Inbox(Path(".fieldmark/feedback"), 10_000_000)
    pixels = np.full((8, 8, 3), 90, np.uint8)
    answer = Answer("fieldmark/1", "ann", 0.4, True)
    for upload in (name(GONE), name(STAYS)):
        box.keep(upload, pixels, answer)
    assert "would remove: 1 of the feedback" in forget([name(GONE)], yes=False)
    assert len(box.waiting()) == 2
    forget([name(GONE)], yes=True)
    assert [waiting.upload for waiting in box.waiting()] == [name(STAYS)]


def test_what_is_out_of_reach_is_listed(place: Path) -> None:
    Path(".dvc/config").write_text("['remote \"store\"']\n    url = s3://bucket/photos\n")
    subprocess.run(["git", "remote", "add", "origin", "https://host/repo"], check=True)
    with Path("data/decisions/labels.csv").open("a") as lines:
        lines.write(f"{name(GONE)},drop,,ann,2026-01-01\n")
    account = forget([name(GONE)], yes=False)
    assert "git remote origin, and every clone" in account
    assert "DVC remote store" in account
    assert "1 lines name its hash" in account
    assert "models that learned from it" in account


def test_nothing_is_removed_while_a_stage_runs(place: Path) -> None:
    note = {"data/ingest": {"write": {"pid": os.getpid(), "cmd": "dvc repro"}}}
    Path(".dvc/tmp").mkdir(parents=True, exist_ok=True)
    Path(".dvc/tmp/rwlock").write_text(json.dumps(note))
    with pytest.raises(FieldmarkError, match="`dvc` is at work"):
        forget([name(GONE)], yes=True)
    assert Path("data/images/ann/1.png").exists()
