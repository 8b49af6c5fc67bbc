"""tune: data/preprocess/dev + data/augment + data/model-search/winner.yaml -> data/tune.

trials.csv, search.json, importance.csv   the study: see search/records
best.yaml          the winner with the best hyperparameters
history.csv        the best trial, epoch by epoch (train/loss, val metrics)
model.safetensors  the final network, with model.json, which says how to build it
validation.csv     id, label and calibrated probabilities, by a network that had not seen them
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.search import records, trial
from pipeline.search import study as search
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs
from pipeline.training import augmentation, network, samples
from pipeline.training.fit import refitted


def run(
    cfg: Config,
    *,
    preprocess_dev: Path,
    augment: Path,
    model_search_winner: Path,
    out: Path,
    scratch: Path,
    run_id: str,
) -> dict[str, float]:
    """Search, then fit the best again, with a temperature from images that it had not seen."""
    winner = Candidate.model_validate(OmegaConf.to_container(OmegaConf.load(model_search_winner)))
    policy, symmetry = augmentation.read(augment)
    classes, train, val = samples.train_and_val(preprocess_dev, augment)
    data, metric = Data(train, val, symmetry, policy), f"val/{cfg.tune.metric}"
    how: dict[str, Any] = {"symmetry": symmetry, "policy": policy, "seed": cfg.seed}
    objective = partial(records.logged_trial, cfg.plain(), metric, cfg.seed, data, run_id)
    study = search.search(winner, cfg.tune, objective, seed=cfg.seed, scratch=scratch)
    best = search.chosen(winner, study.best_params)
    with tracking.trial_run(run_id, "best", {**cfg.plain(), **best.model_dump()}) as own:
        checked = trial.tried(best, data, Budget(), cfg.seed)
        assert checked.val_logits is not None
        final, degrees = refitted(best, train, val, checked.val_logits, on=cfg.tune.refit, **how)
        metrics = {**trial.metrics(checked, data), "temperature": degrees}
        tracking.log_history(checked.history, own)
        tracking.log_metrics(metrics, step=len(checked.history), run_id=own)
    unseen = network.predictions(preprocess_dev, "val", checked.val_logits / degrees, classes)
    csvs.write(unseen, out / "validation.csv")
    network.save(final, best, classes, train[0].shape[0], out)
    OmegaConf.save(OmegaConf.create(best.model_dump(exclude_none=True)), out / "best.yaml")
    csvs.write(pd.DataFrame(checked.history), out / "history.csv")
    return {**metrics, **records.write_study(study, metric, out)}
