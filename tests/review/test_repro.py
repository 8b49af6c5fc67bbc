"""What was decided on the page is applied by the next `dvc repro`, which runs label-check and what follows it."""

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_project, rebuild_environment, write_forty_photos
from fastapi.testclient import TestClient
from PIL import Image
from projects import browser_of
from skimage import data as photos

from pipeline import images, schema, store, table
from pipeline.serving import app, feedback
from pipeline.serving.feedback import Keeping
from pipeline.serving.swap import Folder


@pytest.fixture
def rebuilt(built: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(built, folder, symlinks=True)
    return folder


def train_ids(folder: Path) -> list[str]:
    rows = table.read(folder / "data" / "label-check")
    return rows.loc[rows["split"] == "train", "id"].tolist()


def decide(page: TestClient, id: str, decision: str, label: str = "") -> None:
    assert page.post("/api/decisions", json={"ids": [id], "decision": decision, "label": label}).status_code == 200


def test_repro_applies_the_decisions_and_the_report_counts_them(rebuilt: Path, cache: Path) -> None:
    before = table.read(rebuilt / "data" / "label-check").set_index("id")
    first, second, third, *_ = train_ids(rebuilt)
    page = browser_of(rebuilt, "Ada")
    decide(page, first, "relabel", "flower" if before.loc[first, "given_label"] != "flower" else "coffee")
    decide(page, second, "drop")
    decide(page, third, "keep")
    done = subprocess.run(
        ["dvc", "repro"], cwd=rebuilt, env=rebuild_environment(rebuilt, cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    assert ran == ["label-check", "preprocess", "augment", "model-search", "tune", "evaluate", "export"]
    after = table.read(rebuilt / "data" / "label-check").set_index("id")
    assert after.loc[[first, second, third], "decision"].tolist() == ["relabel", "drop", "keep"]
    assert (after["label"] != before["label"]).sum() == 1
    assert after["given_label"].equals(before["given_label"])
    assert after.loc[second, "split"] == ""
    report = (rebuilt / "data" / "evaluate" / "report.html").read_text()
    found = pd.read_csv(rebuilt / "data" / "label-check" / "findings.csv").set_index("finding")["n"]
    assert found["labels changed by decisions"] == 1
    assert "labels changed by decisions" in report


def test_a_photo_that_the_model_got_wrong_is_trained_on_by_the_next_repro(rebuilt: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the server to the review page to the training images; the held-out ones stay as they were."""
    monkeypatch.chdir(rebuilt)
    told = yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    kept = Keeping(schema.Feedback(keep=True, max_mb=10.0, new_classes=True), 10**8)
    made = app.create(schema.Serving.model_validate(told), Folder(rebuilt / "data" / "export", "fieldmark"), keeping=kept, routers=[feedback.router(kept)])
    photo = io.BytesIO()
    Image.fromarray(photos.chelsea()).save(photo, "JPEG")
    with TestClient(made, base_url="http://127.0.0.1") as api:
        said = api.post("/predict", content=photo.getvalue(), headers={"content-type": "image/jpeg"}).json()["predictions"][0]
        assert api.post("/feedback", json={"id": said["id"], "label": "coffee"}).status_code == 204
    page = browser_of(rebuilt, "Ada")
    (item,) = page.get("/api/items", params={"kind": "feedback"}).json()
    decide(page, item["id"], "relabel", item["suggested_label"])
    before = table.read(rebuilt / "data" / "preprocess" / "test")
    done = repro(rebuilt, cache, "preprocess")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    dev = table.read(rebuilt / "data" / "preprocess" / "dev").set_index("id")
    assert dev.loc[item["id"], ["label", "split"]].tolist() == ["coffee", "train"]
    pixels = store.read_array(rebuilt / "data" / "preprocess" / "dev" / "images.npy")[dev.index.get_loc(item["id"])]
    size_px = len(pixels)
    own = images.square(photos.chelsea(), size_px=size_px, fit="crop", denoise=0.0, clahe=0.0, normalise_brightness=False)
    assert np.abs(pixels.astype(int) - own).mean() < 6  # the very photo, but for JPEG's loss
    assert table.read(rebuilt / "data" / "preprocess" / "test")["id"].equals(before["id"])
    assert page.get("/api/items", params={"kind": "feedback"}).json() == []


def repro(folder: Path, cache: Path, stage: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["dvc", "repro", stage], cwd=folder, env=rebuild_environment(folder, cache), capture_output=True, text=True, check=False
    )


def test_photos_without_any_label_become_classes(tmp_path: Path, cache: Path) -> None:
    folder = copy_project(tmp_path / "project")
    write_forty_photos(tmp_path / "photos")
    (tmp_path / "photos").rename(folder / "data" / "images" / "unlabelled")
    params = (folder / "params.yaml").read_text().replace("{use: elpv}", "{use: folder}")
    (folder / "params.yaml").write_text(params.replace("label_check: {use: default}", "label_check: {use: default, size_px: 64}"))
    early = repro(folder, cache, "preprocess")
    assert "label some with `fieldmark review`" in early.stderr + early.stdout
    rows = table.read(folder / "data" / "label-check")
    assert (rows["split"] == "").all()
    page = browser_of(folder, "Ada")
    truth = {id: name.split("/")[1] for id, name in zip(rows["id"], rows["name"], strict=True)}
    waiting = [item["id"] for item in page.get("/api/items", params={"kind": "unlabelled", "n": 100}).json()]
    assert sorted(waiting) == sorted(truth)
    for id in waiting:
        body = {"ids": [id], "decision": "relabel", "label": truth[id], "new": True}
        assert page.post("/api/decisions", json=body).status_code == 200
    done = repro(folder, cache, "preprocess")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (folder / "data" / "preprocess" / "dev" / "classes.json").read_text() == '["coffee", "flower", "person", "temple"]\n'
    assert len(store.read_array(folder / "data" / "preprocess" / "test" / "images.npy")) > 0
