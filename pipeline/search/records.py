"""What is written down of a study: each trial as a run of MLflow, and its tables."""

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from pipeline.config.schema import Candidate
from pipeline.runs import tracking
from pipeline.search import study as search
from pipeline.search import trial
from pipeline.search.trial import Budget, Data
from pipeline.storage import csvs


def logged_trial(
    settings: dict[str, Any],
    metric: str,
    seed: int,
    data: Data,
    run_id: str,
    candidate: Candidate,
    number: int,
    report: trial.Report,
) -> trial.Outcome:
    """One trial, with a run of its own below `run_id` and a line on stdout.

    settings: of the stage, for the record; metric: what the search is judged by.
    """
    with tracking.trial_run(
        run_id, f"trial {number}", {**settings, **candidate.model_dump()}
    ) as own:
        outcome = trial.tried(candidate, data, Budget(), seed, report)
        tracking.log_history(outcome.history, own)
        complete = outcome.end == "complete"
        tags = {"trial.state": "complete" if complete else "pruned"}
        tracking.tag({**tags, "trial.remembered": str(outcome.remembered).lower()}, own)
    ended = f"{metric} {outcome.history[-1][metric]:.4f}" if complete else f"stopped {outcome.why}"
    turned = {key.split(".")[-1]: search.value(candidate, key) for key in candidate.space}
    values = " ".join(f"{key}={_short(value)}" for key, value in turned.items())
    remembered = "  (remembered)" if outcome.remembered else ""
    print(f"trial {number}: {ended}  {values}{remembered}", flush=True)
    return outcome


def write_study(study: optuna.Study, metric: str, out: Path) -> dict[str, float]:
    """How the search went; returns how many trials ended, and how many of them were pruned."""
    columns = ("number", "state", "value", "params")
    csvs.write(study.trials_dataframe(columns), out / "trials.csv")
    judged = {"metric": metric, "direction": study.direction.name.lower()}
    (out / "search.json").write_text(json.dumps(judged) + "\n", encoding="utf-8")
    csvs.write(_importance(study), out / "importance.csv")
    ended = study.get_trials(deepcopy=False, states=search.COUNTED)
    pruned = sum(each.state == optuna.trial.TrialState.PRUNED for each in ended)
    return {"n_trials": float(len(ended)), "n_pruned": float(pruned)}


def _importance(study: optuna.Study) -> pd.DataFrame:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    different = {trial.value for trial in complete}
    importance = (
        optuna.importance.get_param_importances(study)
        if len(complete) >= 4 and len(different) > 1
        else {}
    )
    return pd.DataFrame(importance.items(), columns=["hyperparameter", "importance"])


def _short(value: bool | int | float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
