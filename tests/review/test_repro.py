"""What was decided on the page is applied by the next `dvc repro`, which runs label-check and what follows it."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from conftest import copy_project, rebuild_environment, write_forty_photos
from fastapi.testclient import TestClient
from projects import browser_of

from pipeline import store, table


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
