"""`dvc exp run -S` turns a value or selects a file, alone or queued, and what it chose stays."""

import csv
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, SMOKE, copy_built
from mlflow.tracking import MlflowClient
from programs import succeed

from pipeline.features import cache as feature_cache
from pipeline.storage import table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
]

README = (ROOT / "conf" / "README.md").read_text()
TURNED: dict[str, Any] = yaml.safe_load(SMOKE)
# What goes with the candidate that is left out.
LESS = {
    f"extractor.{key}": value
    for key, value in TURNED["candidates"]["small_cnn"]["extractor"].items()
}
# Another file of a group, another backbone, a value that params.yaml has and one that it has not.
CHOSEN = [
    "augment.use=none",
    "candidates.lite0.use=resnet50",
    "~candidates.small_cnn",
    "+candidates.coarse.use=hog",
    "++candidates.hog.fit.lr=0.003",
    "++fit.epochs=4",
    "++fit.lr=0.002",
]


def committed(built: Path, folder: Path) -> Path:
    """A rebuilt project whose files git knows; an experiment starts from a commit."""
    copy_built(built, folder)
    for command in (
        "config user.name t",
        "config user.email t@example.org",
        "add -A",
        "commit -q -m rebuilt",
    ):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


def dvc(folder: Path, cache: Path, *arguments: str) -> str:
    return succeed(folder, cache, "dvc", *arguments).stdout


def shown(folder: Path, cache: Path) -> list[dict[str, str]]:
    """The rows of `dvc exp show` with the README's options: the accuracy, and of parameters only
    those that differ.
    """
    named = re.search("`(--only-changed [^`]+)`", README)
    assert named is not None
    return list(
        csv.DictReader(
            dvc(folder, cache, "exp", "show", "--csv", *shlex.split(named[1])).splitlines()
        )
    )


def params(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text())
    return values


@pytest.fixture(scope="module")
def turned(built: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after one experiment in place."""
    folder = committed(built, tmp_path_factory.mktemp("turned") / "project")
    said = dvc(
        folder,
        cache,
        "exp",
        "run",
        "augment",
        *(word for chosen in CHOSEN for word in ("-S", chosen)),
    )
    assert "Running stage 'augment'" in said
    return folder


@pytest.fixture(scope="module")
def swept(built: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a queue of two experiments, run side by side."""
    folder = committed(built, tmp_path_factory.mktemp("swept") / "project")
    written = re.search(
        r"    (photos=.*\n    dvc exp run --queue .*) -S .* && dvc queue start", README
    )
    assert written is not None
    queue = ["bash", "-c", f"{written[1]} -S ++augment.balance_to=0.5,0.25 augment"]
    succeed(folder, cache, *queue)
    dvc(folder, cache, "exp", "run", "--run-all", "-j", "2")
    return folder


def test_what_an_experiment_chose_stays_in_params(turned: Path) -> None:
    assert params(turned) == {
        **TURNED,
        "augment": {**TURNED["augment"], "use": "none"},
        "candidates": {
            "lite0": {**TURNED["candidates"]["lite0"], "use": "resnet50"},
            "hog": {**TURNED["candidates"]["hog"], "fit": {"lr": 0.003}},
            "coarse": {"use": "hog"},
        },
        "fit": {**TURNED["fit"], "epochs": 4, "lr": 0.002},
    }


def test_the_next_repro_goes_on_from_the_experiment(turned: Path, cache: Path) -> None:
    assert "Running stage" not in dvc(turned, cache, "repro", "augment")
    assert set(json.loads(dvc(turned, cache, "status", "--json"))) == {
        "config",
        "model-search",
        "tune",
    }


def test_the_difference_lists_only_what_was_turned(turned: Path, cache: Path) -> None:
    assert json.loads(dvc(turned, cache, "params", "diff", "--json"))["params.yaml"] == {
        "augment.use": {"old": "photo", "new": "none"},
        "candidates.lite0.use": {"old": "efficientnet_lite0", "new": "resnet50"},
        "candidates.small_cnn.use": {"old": "small_cnn", "new": None},
        **{
            f"candidates.small_cnn.{key}": {"old": value, "new": None}
            for key, value in LESS.items()
        },
        "candidates.hog.fit.lr": {"old": None, "new": 0.003},
        "candidates.coarse.use": {"old": None, "new": "hog"},
        "fit.epochs": {"old": 3, "new": 4, "diff": 1},
        "fit.lr": {"old": None, "new": 0.002},
    }


def test_the_experiments_are_told_apart_by_what_was_turned(turned: Path, cache: Path) -> None:
    rows = shown(turned, cache)
    values = {
        "augment.use": "none",
        "candidates.lite0.use": "resnet50",
        "candidates.hog.fit.lr": "0.003",
        "candidates.coarse.use": "hog",
        "fit.epochs": "4",
        "fit.lr": "0.002",
    }
    left_out = {f"candidates.small_cnn.{key}" for key in ("use", *LESS)}
    columns = rows[0].keys() - {"Experiment", "rev", "typ", "Created"}
    assert columns == {"accuracy", *values, *left_out}
    assert values.items() <= rows[-1].items()


def test_another_data_set_is_chosen_like_any_file(built: Path, cache: Path, tmp_path: Path) -> None:
    folder = committed(built, tmp_path / "project")
    dvc(
        folder,
        cache,
        "exp",
        "run",
        "ingest",
        "-S",
        "ingest.use=digits",
        "-S",
        "++ingest.source.per_class=2",
    )
    assert len(table.read(folder / "data" / "ingest")) == 20
    assert params(folder) == {**TURNED, "ingest": {"use": "digits", "source": {"per_class": 2}}}
    assert "Running stage" not in dvc(folder, cache, "repro", "ingest")
    told = shown(folder, cache)[0].keys() - {"Experiment", "rev", "typ", "Created"}
    assert {name for name in told if not name.startswith("ingest.")} <= {"accuracy"}, (
        "counts of images hide it"
    )


def test_a_queue_runs_an_experiment_a_value(swept: Path, cache: Path) -> None:
    queued = [row for row in shown(swept, cache) if row["typ"].startswith("branch")]
    assert {(row["augment.balance_to"], row["State"]) for row in queued} == {
        ("0.5", "Success"),
        ("0.25", "Success"),
    }


def test_a_queue_leaves_the_project_as_it_was(swept: Path) -> None:
    changes = subprocess.run(
        ["git", "status", "--porcelain"], cwd=swept, capture_output=True, text=True, check=True
    )
    assert changes.stdout == ""


def test_the_runs_of_queued_experiments_lie_in_the_store_of_the_project(
    swept: Path, cache: Path
) -> None:
    client = MlflowClient(f"sqlite:///{swept / 'mlflow.db'}")
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()]
    )
    experiments = {
        row["Experiment"] for row in shown(swept, cache) if row["typ"].startswith("branch")
    }
    names = [run.info.run_name for run in runs]
    assert sorted(names) == sorted([*experiments, "augment", "augment"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(list((swept / "mlartifacts").rglob("sheet.png"))) == 2


def test_queued_experiments_share_the_feature_cache_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    apart.mkdir(parents=True)
    monkeypatch.chdir(apart)
    monkeypatch.delenv("FIELDMARK_CACHE")
    feature_cache.features(torch.nn.Flatten(), np.zeros((1, 8, 8, 3), np.uint8), symmetry="none")
    assert list((tmp_path / ".fieldmark" / "cache" / "features").rglob("*.npz"))
    assert list(apart.iterdir()) == []
