"""One `dvc repro` on forty real photos with everything that goes wrong in a user's folder."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from conftest import copy_built
from programs import succeed

from pipeline.storage import store, table


def test_what_was_left_out_is_listed_with_its_reason(built: Path) -> None:
    left_out = pd.read_csv(built / "data" / "ingest" / "quarantine.csv").set_index("name")["reason"]
    assert set(left_out.index) == {
        "coffee/copy of 3.jpg",
        "nothing here/",
        "temple/0.jpg",
        "temple/1.jpg",
    }
    assert "exact duplicate of coffee/3.jpg" in left_out["coffee/copy of 3.jpg"]


def test_a_user_reads_no_warning_of_a_library(built: Path) -> None:
    """Nor what one takes for leaked when a stage ends."""
    said = (built / "repro.err").read_text()
    assert [line for line in said.splitlines() if "Warning" in line or "leaked" in line] == []


def test_the_exported_model_runs_on_the_test_images(built: Path) -> None:
    images = np.array(store.read_array(built / "data" / "preprocess" / "test" / "images.npy"))
    model = ort.InferenceSession(built / "data" / "export" / "model.onnx")
    probs = model.run(None, {"images": images})[0]
    said = pd.read_csv(built / "data" / "evaluate" / "predictions.csv")
    own = said[[c for c in said.columns if c.startswith("p_")]].to_numpy()
    np.testing.assert_allclose(probs, own, atol=1e-3)


def test_thresholds_and_reference_come_from_validation_images_alone(built: Path) -> None:
    export, rows = built / "data" / "export", table.read(built / "data" / "preprocess" / "dev")
    reference = pd.read_parquet(export / "reference.parquet")
    assert set(reference["id"]) == set(rows.loc[rows["split"] == "val", "id"])
    numbers = reference.drop(columns=["id", "label", "predicted"])
    assert numbers.shape[1] == 2 + 16 + 2 and np.isfinite(numbers.to_numpy()).all()
    thresholds = json.loads((export / "thresholds.json").read_text())
    assert thresholds["ood"]["score"] == pytest.approx(np.quantile(reference["ood"], 0.99))
    said = reference[reference["confidence"] >= thresholds["abstain"]["confidence"]]
    assert len(said) / len(reference) == pytest.approx(thresholds["abstain"]["val_coverage"])


def test_the_report_stands_alone(built: Path) -> None:
    page = (built / "data" / "evaluate" / "report.html").read_text()
    metrics = json.loads((built / "data" / "evaluate" / "metrics.json").read_text())
    assert 'src="http' not in page
    assert (
        0
        <= metrics["test/accuracy_low"]
        <= metrics["test/accuracy"]
        <= metrics["test/accuracy_high"]
        <= 1
    )


def test_dvc_shows_the_plots_without_a_network(built: Path, cache: Path, tmp_path: Path) -> None:
    succeed(built, cache, "dvc", "plots", "show", "-o", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    assert "trust_confusion.svg" in page and "sheet.png" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_artifacts_lie_beside_the_store_where_git_ignores_them(built: Path) -> None:
    seen = subprocess.run(
        ["git", "status", "--porcelain"], cwd=built, capture_output=True, text=True, check=True
    )
    assert list((built / "mlartifacts").rglob("model.onnx"))
    assert "ml" not in {line.split()[-1][:2] for line in seen.stdout.splitlines()}


def test_a_second_repro_runs_nothing_but_the_check(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    folder = copy_built(built, tmp_path / "project")  # other processes read the original
    done = succeed(folder, cache, "dvc", "repro")
    assert re.findall("Running stage '(.*)'", done.stdout) == ["config"]
