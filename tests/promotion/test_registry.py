"""The registered model leads back to what made it, and runs where nothing of this project is."""

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest
import yaml
from conftest import copy_built
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from programs import succeed

from pipeline.promotion import gates
from pipeline.runs import tracking

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")

STRANGER = """
import json, sys
sys.modules["pipeline"] = None  # an import of it fails from here on
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/fieldmark@candidate")
some = np.random.default_rng(0).integers(0, 256, (3, *model.input_example["images"].shape[1:]), np.uint8)
probs = [model.predict(images)["probs"] for images in (model.input_example, some)]
refused = []
for wrong in (some.astype(np.float32), some[:, :10]):
    try:
        model.predict(wrong)
    except mlflow.exceptions.MlflowException:
        refused.append(True)
print(json.dumps({"shapes": [p.shape for p in probs], "sums": [p.sum(1).tolist() for p in probs], "refused": refused,
                  "torch": "torch" in sys.modules, "classes": model.metadata.metadata["classes"]}))
"""


def candidate(folder: Path) -> ModelVersion:
    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_model_version_by_alias(
        "fieldmark", "candidate"
    )


def hash_of(folder: Path, stage: str) -> str:
    return str(yaml.safe_load((folder / "dvc.lock").read_text())["stages"][stage]["outs"][0]["md5"])


def test_the_candidate_predicts_where_the_project_cannot_be_imported(
    built: Path, tmp_path: Path
) -> None:
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER)
    command = [sys.executable, "-I", str(script), f"sqlite:///{built / 'mlflow.db'}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    classes = json.loads((built / "data" / "preprocess" / "dev" / "classes.json").read_text())
    assert results["classes"] == classes
    assert results["shapes"] == [[1, len(classes)], [3, len(classes)]]
    assert [sum(sums) for sums in results["sums"]] == pytest.approx([1, 3], abs=1e-5)
    assert results["refused"] == [True, True]
    assert not results["torch"]


def test_a_registered_model_holds_all_that_serving_needs(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{built / 'mlflow.db'}")
    there = tracking.download("models:/fieldmark@candidate", tmp_path)
    export = built / "data" / "export"
    needed = ("signature.json", "thresholds.json", "reference.parquet", "card.md")
    assert [(there / name).read_bytes() for name in needed] == [
        (export / name).read_bytes() for name in needed
    ]
    assert ort.InferenceSession(there / "model.onnx").get_modelmeta().custom_metadata_map["classes"]


def test_the_tags_of_a_version_lead_back_to_data_code_and_settings(built: Path) -> None:
    tags = candidate(built).tags
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=built, capture_output=True, text=True, check=True
    ).stdout.strip()
    tested = json.loads((built / "data" / "evaluate" / "metrics.json").read_text())
    assert (tags["git.commit"], tags["seed"]) == (commit, "0")
    assert {stage: tags[f"data.{stage}"] for stage in ("ingest", "tune")} == {
        s: hash_of(built, s) for s in ("ingest", "tune")
    }
    assert float(tags["test/accuracy"]) == pytest.approx(tested["test/accuracy"], abs=1e-4)
    assert "fit" in json.loads(tags["winner"])


@pytest.mark.slow
def test_old_parameters_register_again_so_that_the_candidate_is_the_model_at_hand(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    """DVC would restore the old output without running anything, and the candidate would be another
    model.
    """
    folder = copy_built(built, tmp_path / "project")
    params = folder / "params.yaml"
    before = params.read_text()
    for text in (
        before.replace("export: {use: default,", "export: {use: default, parity_images: 3,"),
        before,
    ):
        params.write_text(text)
        succeed(folder, cache, "dvc", "repro")
    version = candidate(folder)
    run = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_run(version.run_id)
    assert int(version.version) == 2
    assert run.data.tags["out.hash"] == hash_of(folder, "export")


@pytest.mark.slow
def test_what_the_gate_of_edits_advises_registers_a_version_of_the_new_commit(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    """A commit makes no stage stale: `dvc repro` alone, which was the advice, registered nothing,
    and the way ended there.
    """
    folder = copy_built(built, tmp_path / "project")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(
        [*git, "commit", "--quiet", "--all", "--message", "what was edited"], cwd=folder, check=True
    )
    succeed(folder, cache, "sh", "-c", gates.AGAIN)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    tags = candidate(folder).tags
    assert (tags["git.commit"], tags["git.dirty"]) == (head, "false")
