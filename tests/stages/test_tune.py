"""The search over the winner's hyperparameters, from folder to folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from toys import HOG, UNCHANGED, candidate, draw

from pipeline import config
from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.stages import tune
from pipeline.storage import store, table
from pipeline.training import network

# MLflow's own use of SQLAlchemy; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning")
CLASSES = ["ant", "bee"]
WINNER = candidate(
    HOG,
    frozen=True,
    head={"kind": "mlp", "hidden": 8},
    space={"fit.lr": {"low": 0.001, "high": 0.1, "log": True}},
    weight_decay=0.1,
)


def folders(place: Path, winner: Candidate) -> dict[str, Path]:
    """What the stages before leave: 48 training and 24 validation images, and the winner."""
    labels = [i % 2 for i in range(72)]
    blank = {name: ["" if kind == "str" else 1] * 72 for name, kind in table.INGEST_COLUMNS.items()}
    rows = pd.DataFrame({**blank, "id": [f"{i:03d}" for i in range(72)]}).assign(
        label=[CLASSES[label] for label in labels], split=["train"] * 48 + ["val"] * 24
    )
    dev, extra = place / "dev", place / "augment" / "extra"
    for folder, some in ((dev, rows), (extra, rows[:0])):
        table.write(some, folder)
        array = store.open_array(folder / "images.npy", (len(some), 16, 16, 3), np.uint8)
        array[:] = draw(labels)[: len(some)]
    (dev / "classes.json").write_text(json.dumps(CLASSES))
    policy = {"policy": json.loads(UNCHANGED.to_json()), "symmetry": "none"}
    (place / "augment" / "policy.json").write_text(json.dumps(policy))
    OmegaConf.save(OmegaConf.create(winner.model_dump(exclude_none=True)), place / "winner.yaml")
    return {
        "preprocess_dev": dev,
        "augment": place / "augment",
        "model_search_winner": place / "winner.yaml",
    }


@pytest.fixture
def settings() -> Config:
    whole = config.load("seed", "tune")
    changes = {"trials": 5, "startup_trials": 2, "prune_after_epochs": 1}
    return Config(seed=0, tune=whole.tune.model_copy(update=changes))


@pytest.fixture
def run_id(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stage's run in a store of one's own, in a project folder of one's own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    client = tracking.connect()
    experiment = client.get_experiment_by_name("fieldmark")
    assert experiment is not None
    made = client.create_run(experiment.experiment_id, run_name="tune", tags={"seed": "0"})
    return str(made.info.run_id)


def run(cfg: Config, given: dict[str, Path], out: Path, run_id: str) -> dict[str, float]:
    out.mkdir()
    return tune.run(cfg, **given, out=out, scratch=out.parent / "scratch", run_id=run_id)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_second_run_trains_nothing_and_writes_the_same_to_the_byte(
    settings: Config, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the final network, which is fitted on other images than the trials."""
    given = folders(tmp_path / "given", WINNER)
    first = run(settings, given, tmp_path / "first", run_id)
    monkeypatch.setattr("pipeline.training.fit.fit", None)
    monkeypatch.setattr("pipeline.search.trial.fit", None)
    assert run(settings, given, tmp_path / "again", run_id) == first
    assert contents(tmp_path / "again") == contents(tmp_path / "first")
    saved, best, *_ = network.load(tmp_path / "first")
    assert float(saved.get_buffer("temperature")) == pytest.approx(first["temperature"])


def test_each_trial_is_a_run_with_its_curve_state_and_cost_and_the_plots_are_artifacts(
    settings: Config, run_id: str, tmp_path: Path
) -> None:
    run(settings, folders(tmp_path / "given", WINNER), tmp_path / "out", run_id)
    client = tracking.connect()
    below = client.search_runs(
        [client.get_run(run_id).info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
    )
    named = {each.info.run_name: each for each in below}
    assert set(named) == {"best", *(f"trial {number}" for number in range(5))}
    trial = named["trial 0"].data
    assert trial.params["fit.lr"] == "0.02" and trial.tags["trial.state"] == "complete"
    assert trial.metrics["train_seconds"] > 0 and "val/log_loss" in trial.metrics
    names = {each.path for each in client.list_artifacts(named["best"].info.run_id)}
    assert {"trials.svg", "timeline.svg", "parallel.svg"} <= names


def test_the_record_says_in_a_sentence_whether_tuning_helped(
    settings: Config, run_id: str, tmp_path: Path
) -> None:
    run(settings, folders(tmp_path / "given", WINNER), tmp_path / "out", run_id)
    searched = json.loads((tmp_path / "out" / "search.json").read_text())
    assert searched["direction"] == "minimize"
    assert "untuned" in searched["comparison"]["sentence"]


@pytest.mark.skipif(
    "FIELDMARK_TEST_POSTGRES" not in os.environ,
    reason="name an empty database in FIELDMARK_TEST_POSTGRES",
)
def test_a_study_in_postgresql_gives_the_same(
    settings: Config, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that stands there already is opened again, whatever the memo holds."""
    given = folders(tmp_path / "given", WINNER)
    here = run(settings, given, tmp_path / "here", run_id)
    monkeypatch.setenv("FIELDMARK_STUDY_URL", os.environ["FIELDMARK_TEST_POSTGRES"])
    assert run(settings, given, tmp_path / "first", run_id) == here
    assert run(settings, given, tmp_path / "again", run_id) == here
    assert contents(tmp_path / "again") == contents(tmp_path / "here")
