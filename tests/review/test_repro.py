"""What was decided on the page is applied by the next `dvc repro`, which runs label-check and what
follows it.
"""

import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_project, write_forty_photos
from fastapi.testclient import TestClient
from PIL import Image
from programs import run, succeed
from projects import browser_of
from skimage import data as photos

from pipeline.config import schema
from pipeline.pixels import images
from pipeline.serving import app, feedback
from pipeline.serving.feedback import Keeping
from pipeline.serving.swap import Folder
from pipeline.storage import store, table

pytestmark = pytest.mark.slow


class Reviewed(NamedTuple):
    """A rebuilt project, what was in it before the review, the images decided on, and the next `dvc
    repro`.
    """

    folder: Path
    before: pd.DataFrame
    decided: list[str]
    objected: str
    label: str
    log: str


@pytest.fixture(scope="module")
def reviewed(built: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    """Ada relabelled an image, dropped one, kept one, and accepted a photo that came back from
    production.
    """
    folder = tmp_path_factory.mktemp("reviewed") / "project"
    shutil.copytree(built, folder, symlinks=True)
    before = table.read(folder / "data" / "label-check").set_index("id")
    first, second, third, *_ = before.index[before["split"] == "train"]
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        label = object_to_a_photo(folder)
    page = browser_of(folder, "Ada")
    decide(
        page,
        first,
        "relabel",
        "flower" if before.loc[first, "given_label"] != "flower" else "coffee",
    )
    decide(page, second, "drop")
    decide(page, third, "keep")
    (item,) = page.get("/api/items", params={"kind": "feedback"}).json()
    assert item["suggested_label"] == label
    decide(page, item["id"], "relabel", label)
    assert page.get("/api/items", params={"kind": "feedback"}).json() == []
    done = succeed(folder, cache, "dvc", "repro")
    return Reviewed(folder, before, [first, second, third], item["id"], label, done.stdout)


def object_to_a_photo(folder: Path) -> str:
    """Send a cat to the exported model, say that the answer is wrong, and what it is instead."""
    told = yaml.safe_load((ROOT / "conf/serving/default.yaml").read_text())
    kept = Keeping(schema.Feedback(keep=True, max_mb=10.0, new_classes=True), 10**8)
    made = app.create(
        schema.Serving.model_validate(told),
        Folder(folder / "data" / "export", "fieldmark"),
        keeping=kept,
        routers=[feedback.router(kept)],
    )
    photo = io.BytesIO()
    Image.fromarray(photos.chelsea()).save(photo, "JPEG")
    with TestClient(made, base_url="http://127.0.0.1") as api:
        said = api.post(
            "/predict", content=photo.getvalue(), headers={"content-type": "image/jpeg"}
        ).json()["predictions"][0]
        label = next(name for name in ("coffee", "flower") if name != said["top"][0]["class"])
        assert api.post("/feedback", json={"id": said["id"], "label": label}).status_code == 204
    return label


def decide(page: TestClient, id: str, decision: str, label: str = "") -> None:
    assert (
        page.post(
            "/api/decisions", json={"ids": [id], "decision": decision, "label": label}
        ).status_code
        == 200
    )


def test_repro_applies_the_decisions_and_the_report_counts_them(reviewed: Reviewed) -> None:
    folder, before = reviewed.folder, reviewed.before
    ran = [
        line.split("'")[1] for line in reviewed.log.splitlines() if line.startswith("Running stage")
    ]
    # ingest runs because of the accepted photo
    assert ran == [
        "config",
        "ingest",
        "label-check",
        "preprocess",
        "augment",
        "model-search",
        "tune",
        "evaluate",
        "export",
    ]
    after = table.read(folder / "data" / "label-check").set_index("id")
    assert after.loc[reviewed.decided, "decision"].tolist() == ["relabel", "drop", "keep"]
    assert (after.loc[before.index, "label"] != before["label"]).sum() == 1
    assert after.loc[before.index, "given_label"].equals(before["given_label"])
    assert after.loc[reviewed.decided[1], "split"] == ""
    report = (folder / "data" / "evaluate" / "report.html").read_text()
    found = pd.read_csv(folder / "data" / "label-check" / "findings.csv").set_index("finding")["n"]
    assert (found["labels changed by decisions"], found["feedback images"]) == (2, 1)
    assert "labels changed by decisions" in report


def test_decisions_alone_leave_ingest_alone(reviewed: Reviewed, cache: Path) -> None:
    page = browser_of(reviewed.folder, "Ada")
    decide(page, reviewed.decided[2], "drop")
    status = succeed(reviewed.folder, cache, "dvc", "status", "--json")
    # The check always runs, and what follows from label-check is run after it.
    assert [*json.loads(status.stdout)] == ["config", "label-check"]


def test_a_photo_that_the_model_got_wrong_is_trained_on_by_the_next_repro(
    reviewed: Reviewed,
) -> None:
    """From the server to the review page to the training images, and never to the held-out ones."""
    made = reviewed.folder / "data" / "preprocess"
    dev = table.read(made / "dev").set_index("id")
    assert dev.loc[reviewed.objected, ["label", "split"]].tolist() == [reviewed.label, "train"]
    pixels = store.read_array(made / "dev" / "images.npy")[dev.index.get_loc(reviewed.objected)]
    own = images.square(
        photos.chelsea(),
        size_px=len(pixels),
        fit="crop",
        denoise=0.0,
        clahe=0.0,
        normalise_brightness=False,
    )
    assert np.abs(pixels.astype(int) - own).mean() < 6  # the very photo, but for JPEG's loss
    assert reviewed.objected not in set(table.read(made / "test")["id"])


def test_photos_without_any_label_become_classes(tmp_path: Path, cache: Path) -> None:
    folder = copy_project(tmp_path / "project")
    write_forty_photos(tmp_path / "photos")
    (tmp_path / "photos").rename(folder / "data" / "images" / "unlabelled")
    params = (folder / "params.yaml").read_text().replace("{use: elpv}", "{use: folder}")
    (folder / "params.yaml").write_text(
        params.replace("label_check: {use: default}", "label_check: {use: default, size_px: 64}")
    )
    early = run(folder, cache, "dvc", "repro", "preprocess")
    assert "label some with `fieldmark review`" in early.stderr + early.stdout
    rows = table.read(folder / "data" / "label-check")
    assert (rows["split"] == "").all()
    page = browser_of(folder, "Ada")
    truth = {id: name.split("/")[1] for id, name in zip(rows["id"], rows["name"], strict=True)}
    waiting = [
        item["id"]
        for item in page.get("/api/items", params={"kind": "unlabelled", "n": 100}).json()
    ]
    assert sorted(waiting) == sorted(truth)
    for id in waiting:
        body = {"ids": [id], "decision": "relabel", "label": truth[id], "new": True}
        assert page.post("/api/decisions", json=body).status_code == 200
    succeed(folder, cache, "dvc", "repro", "preprocess")
    assert (
        folder / "data" / "preprocess" / "dev" / "classes.json"
    ).read_text() == '["coffee", "flower", "person", "temple"]\n'
    assert len(store.read_array(folder / "data" / "preprocess" / "test" / "images.npy")) > 0
