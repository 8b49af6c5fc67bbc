"""Trials of tune in two processes against one: wall-clock seconds, in turns, on the data of this
project. `dvc repro model-search` first makes what it needs.
"""

import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline import config
from pipeline.config.schema import Candidate
from pipeline.search import study, trial
from pipeline.search.trial import Budget, Data
from pipeline.training import augmentation, samples

ROOT = Path(__file__).parents[2]
TURNS = 2


@pytest.mark.benchmark
def test_two_processes_against_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ROOT / "data" / "model-search" / "winner.yaml"
    if not given.exists():
        pytest.skip("run `dvc repro model-search` first")
    winner = Candidate.model_validate(OmegaConf.to_container(OmegaConf.load(given)))
    policy, symmetry = augmentation.read(ROOT / "data" / "augment")
    _, train, val = samples.train_and_val(ROOT / "data/preprocess/dev", ROOT / "data/augment")
    data, cfg = Data(train, val, symmetry, policy), config.load("seed", "tune")
    objective = partial(trial.tried, data=data, budget=Budget(), seed=cfg.seed)
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FIELDMARK_PROCESSES", "2")
    monkeypatch.chdir(tmp_path)
    trial.tried(winner, data, Budget(), cfg.seed)  # so that all features are there
    seconds: dict[str, list[float]] = {"local": [], "processes": []}
    results = []
    for turn in range(TURNS):
        for engine, measured in seconds.items():
            shutil.rmtree(tmp_path / "cache" / "trials")
            monkeypatch.setenv("FIELDMARK_ENGINE", engine)
            start = time.perf_counter()
            done = study.search(
                winner, cfg.tune, objective, seed=cfg.seed, about=f"{engine} {turn}"
            )
            measured.append(time.perf_counter() - start)
            results.append([(each.params, each.value) for each in done.trials])
    assert all(result == results[0] for result in results)
    ratios = [b / a for a, b in zip(seconds["local"], seconds["processes"], strict=True)]
    for engine, measured in seconds.items():
        print(f"{engine}: {', '.join(f'{each:.1f}' for each in measured)} s")
    print(f"{cfg.tune.trials} trials, processes / local: {', '.join(f'{r:.2f}' for r in ratios)}")
