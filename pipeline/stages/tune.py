"""tune: data/preprocess/dev + data/augment + data/model-search/winner.yaml -> data/tune.

trials.csv         a row a trial: number, state, value, its hyperparameters
best.yaml          the winner with the best hyperparameters
search.json        the metric of the search and its direction
history.csv        the best trial, epoch by epoch (train/loss, val metrics)
model.safetensors  the final network, with model.json, which says how to build it
validation.csv     id, label and a calibrated probability a class, by a network that had not seen
                   the validation images
importance.csv     how much each hyperparameter mattered (fANOVA), where enough trials ended
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from omegaconf import OmegaConf
from scipy.special import softmax

from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.search import study as search
from pipeline.storage import csvs, table
from pipeline.training import augmentation, network, samples
from pipeline.training.classifier import Diverged, validation
from pipeline.training.fit import fit, temperature


def run(
    cfg: Config,
    *,
    preprocess_dev: Path,
    augment: Path,
    model_search_winner: Path,
    out: Path,
    scratch: Path,
) -> dict[str, float]:
    """Search, then fit the best again; its temperature comes from validation images that it had not
    seen.
    """
    winner = Candidate.model_validate(OmegaConf.to_container(OmegaConf.load(model_search_winner)))
    policy, symmetry = augmentation.read(augment)
    classes, train, val = samples.train_and_val(preprocess_dev, augment)
    how: dict[str, Any] = {"symmetry": symmetry, "policy": policy, "seed": cfg.seed}
    study = search.search(
        winner, cfg.tune, partial(_trial, cfg, train, val, how), seed=cfg.seed, scratch=scratch
    )
    best = search.chosen(winner, study.best_params)
    with tracking.trial_run("best", {**cfg.plain(), **best.model_dump()}):
        checked = fit(best, train, val, **how)
        assert checked.val_logits is not None
        final = fit(best, train + val, None, **how) if cfg.tune.refit == "dev" else checked
        final.network.temperature.fill_(temperature(checked.val_logits, val.targets))  # type: ignore[operator]
        tracking.log_history(checked.history)
        degrees = float(final.network.temperature)  # type: ignore[arg-type]
        found = {**validation(checked.val_logits, val.labels), "temperature": degrees}
        tracking.log_metrics(found, step=len(checked.history))
    unseen = _unseen(checked.val_logits / degrees, preprocess_dev, classes)
    csvs.write(unseen, out / "validation.csv")
    network.save(final.network, best, classes, train[0].shape[0], out)
    OmegaConf.save(OmegaConf.create(best.model_dump(exclude_none=True)), out / "best.yaml")
    csvs.write(pd.DataFrame(checked.history), out / "history.csv")
    trials = study.trials_dataframe(("number", "state", "value", "params"))
    csvs.write(trials, out / "trials.csv")
    said = {"metric": f"val/{cfg.tune.metric}", "direction": study.direction.name.lower()}
    (out / "search.json").write_text(json.dumps(said) + "\n", encoding="utf-8")
    csvs.write(_importance(study), out / "importance.csv")
    ended = study.get_trials(deepcopy=False, states=search.COUNTED)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in ended)
    return {**found, "n_trials": float(len(ended)), "n_pruned": float(pruned)}


def _trial(
    cfg: Config,
    train: samples.Samples,
    val: samples.Samples,
    how: dict[str, Any],
    candidate: Candidate,
    number: int,
    report: search.Report,
) -> float:
    """The value that a trial ends with, or raises what stopped it: study.search says which."""
    history: list[dict[str, float]] = []

    def watch(epoch: dict[str, float]) -> None:
        history.append(epoch)
        report(epoch)

    turned = {key: search.value(candidate, key) for key in candidate.space}
    stopped: Exception | None = None
    with tracking.trial_run(f"trial {number}", {**cfg.plain(), **candidate.model_dump()}):
        try:
            fit(candidate, train, val, on_epoch=watch, **how)
        except (optuna.TrialPruned, Diverged) as error:
            stopped = error
        tracking.log_history(history)
        tracking.tag({"trial.state": "pruned" if stopped else "complete"})
    shown = " ".join(f"{key.split('.')[-1]}={_short(value)}" for key, value in turned.items())
    if stopped:
        print(f"trial {number}: stopped {stopped}  {shown}", flush=True)
        raise stopped  # not inside the run, which would be shown as failed
    value = history[-1][f"val/{cfg.tune.metric}"]
    print(f"trial {number}: val/{cfg.tune.metric} {value:.4f}  {shown}", flush=True)
    return value


def _unseen(logits: np.ndarray, preprocess_dev: Path, classes: list[str]) -> pd.DataFrame:
    rows = table.read(preprocess_dev)
    said = rows.loc[rows["split"] == "val", ["id", "label"]].reset_index(drop=True)
    return said.join(
        pd.DataFrame(
            softmax(logits.astype(np.float64), axis=1), columns=[f"p_{name}" for name in classes]
        )
    )


def _short(value: bool | int | float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _importance(study: optuna.Study) -> pd.DataFrame:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    different = {trial.value for trial in complete}
    found = (
        optuna.importance.get_param_importances(study)
        if len(complete) >= 4 and len(different) > 1
        else {}
    )
    return pd.DataFrame(found.items(), columns=["hyperparameter", "importance"])
