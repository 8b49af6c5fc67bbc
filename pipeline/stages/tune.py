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

import numpy as np
import optuna
import pandas as pd
from omegaconf import OmegaConf
from scipy.special import softmax

from pipeline.config import Config
from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.search import study as search
from pipeline.search import trial
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs, table
from pipeline.training import augmentation, network, samples
from pipeline.training.fit import fit, temperature


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
    """Search, then fit the best again; its temperature comes from validation images that it had not
    seen.
    """
    winner = Candidate.model_validate(OmegaConf.to_container(OmegaConf.load(model_search_winner)))
    policy, symmetry = augmentation.read(augment)
    classes, train, val = samples.train_and_val(preprocess_dev, augment)
    data = Data(train, val, symmetry, policy)
    objective = partial(_trial, cfg, data, run_id)
    study = search.search(winner, cfg.tune, objective, seed=cfg.seed, scratch=scratch)
    best = search.chosen(winner, study.best_params)
    with tracking.trial_run(run_id, "best", {**cfg.plain(), **best.model_dump()}) as own:
        checked = trial.tried(best, data, Budget(), cfg.seed)
        assert checked.val_logits is not None
        degrees = temperature(checked.val_logits, val.targets)
        learned, watched = (train + val, None) if cfg.tune.refit == "dev" else (train, val)
        final = fit(best, learned, watched, symmetry=symmetry, policy=policy, seed=cfg.seed)
        final.network.temperature.fill_(degrees)  # type: ignore[operator]
        degrees = float(final.network.temperature)  # type: ignore[arg-type]  # in its precision
        metrics = {**trial.metrics(checked, data), "temperature": degrees}
        tracking.log_history(checked.history, own)
        tracking.log_metrics(metrics, step=len(checked.history), run_id=own)
    unseen = _unseen(checked.val_logits / degrees, preprocess_dev, classes)
    csvs.write(unseen, out / "validation.csv")
    network.save(final.network, best, classes, train[0].shape[0], out)
    OmegaConf.save(OmegaConf.create(best.model_dump(exclude_none=True)), out / "best.yaml")
    csvs.write(pd.DataFrame(checked.history), out / "history.csv")
    return {**metrics, **_write_study(study, cfg, out)}


def _write_study(study: optuna.Study, cfg: Config, out: Path) -> dict[str, float]:
    """How the search went; returns how many trials ended, and how many of them were pruned."""
    columns = ("number", "state", "value", "params")
    csvs.write(study.trials_dataframe(columns), out / "trials.csv")
    said = {"metric": f"val/{cfg.tune.metric}", "direction": study.direction.name.lower()}
    (out / "search.json").write_text(json.dumps(said) + "\n", encoding="utf-8")
    csvs.write(_importance(study), out / "importance.csv")
    ended = study.get_trials(deepcopy=False, states=search.COUNTED)
    pruned = sum(each.state == optuna.trial.TrialState.PRUNED for each in ended)
    return {"n_trials": float(len(ended)), "n_pruned": float(pruned)}


def _trial(
    cfg: Config,
    data: Data,
    run_id: str,
    candidate: Candidate,
    number: int,
    report: trial.Report,
) -> trial.Outcome:
    settings = {**cfg.plain(), **candidate.model_dump()}
    with tracking.trial_run(run_id, f"trial {number}", settings) as own:
        outcome = trial.tried(candidate, data, Budget(), cfg.seed, report)
        tracking.log_history(outcome.history, own)
        complete = outcome.end == "complete"
        tags = {"trial.state": "complete" if complete else "pruned"}
        tracking.tag({**tags, "trial.remembered": str(outcome.remembered).lower()}, own)
    metric = f"val/{cfg.tune.metric}"
    ended = f"{metric} {outcome.history[-1][metric]:.4f}" if complete else f"stopped {outcome.why}"
    turned = {key.split(".")[-1]: search.value(candidate, key) for key in candidate.space}
    shown = " ".join(f"{key}={_short(value)}" for key, value in turned.items())
    remembered = "  (remembered)" if outcome.remembered else ""
    print(f"trial {number}: {ended}  {shown}{remembered}", flush=True)
    return outcome


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
