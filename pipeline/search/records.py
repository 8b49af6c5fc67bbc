"""What is written down of a study: each trial as a run of MLflow, and its tables."""

import json
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.schema import Candidate, Tune
from pipeline.runs import tracking
from pipeline.search import space
from pipeline.storage import csvs


def log_trial(
    settings: dict[str, Any], metric: str, run_id: str, winner: Candidate, trial: FrozenTrial
) -> None:
    """A trial that has ended, as a run of its own below `run_id` and a line on stdout.

    settings: of the stage, for the record; metric: what the search is judged by.
    """
    candidate, ended = space.chosen(winner, trial.params), trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    name = f"trial {trial.number}"
    with tracking.trial_run(run_id, name, {**settings, **candidate.model_dump()}) as own:
        tracking.log_history(ended["history"], own)
        waited = {key: ended[key] for key in ("waiting_share",) if key in ended}
        tracking.log_metrics({"train_seconds": ended["seconds"], **waited}, run_id=own)
        tags = {"trial.state": "complete" if complete else "pruned"}
        tracking.tag({**tags, "trial.remembered": str(ended["remembered"]).lower()}, own)
    result = f"{metric} {trial.value:.4f}" if complete else f"stopped {ended['why']}"
    values = " ".join(
        f"{key.split('.')[-1]}={space.short(value)}" for key, value in trial.params.items()
    )
    remembered = "  (remembered)" if ended["remembered"] else ""
    print(f"{name}: {result}  {values}{remembered}", flush=True)


def write_study(
    study: optuna.Study,
    winner: Candidate,
    settings: Tune,
    comparison: dict[str, Any],
    out: Path,
) -> dict[str, float]:
    """How the search went, and whether it helped; returns how many trials ended, and how many of
    them were pruned.
    """
    trials = study.get_trials(deepcopy=False)
    columns = ("number", "state", "value", "params")
    csvs.write(study.trials_dataframe(columns), out / "trials.csv")
    cut = cut_short(len(trials), winner, settings)
    print(*cut, sep="\n", end="\n" if cut else "", flush=True)
    judged = {
        "metric": f"val/{settings.metric}",
        "direction": study.direction.name.lower(),
        "edges": space.edges(winner, study.best_params),
        "cut": cut,
        "comparison": comparison,
    }
    (out / "search.json").write_text(
        json.dumps(judged, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    csvs.write(importance(study), out / "importance.csv")
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    return {"n_trials": float(len(trials)), "n_pruned": float(pruned)}


def cut_short(n_trials: int, winner: Candidate, settings: Tune) -> list[str]:
    """A sentence where the time that was given ended the search before all its trials."""
    total = settings.trials if winner.space else 1
    if n_trials >= total:
        return []
    return [
        f"tune.budget_minutes = {settings.budget_minutes:g} ended the search after {n_trials} of "
        f"{total} trials. With more time `dvc repro -f tune` goes on from there."
    ]


def plotted(study: optuna.Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What report/study_plots draws: one row per trial, with number, value, stopped, params_NAME,
    and start_s and end_s in seconds since the first one began; and the importance.
    """
    table = study.trials_dataframe(
        ("number", "value", "state", "params", "datetime_start", "datetime_complete")
    )
    begin = table["datetime_start"].min()
    times = {
        "start_s": (table["datetime_start"] - begin).dt.total_seconds(),
        "end_s": (table["datetime_complete"] - begin).dt.total_seconds(),
    }
    stopped = table["state"] != "COMPLETE"
    rows = table.drop(columns=["datetime_start", "datetime_complete", "state"])
    return rows.assign(stopped=stopped, **times), importance(study)


def importance(study: optuna.Study) -> pd.DataFrame:
    """Columns hyperparameter and importance, the most important first; no rows where trials are too
    few or too alike to tell.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    different = {trial.value for trial in complete}
    shares = (
        optuna.importance.get_param_importances(study)
        if len(complete) >= 4 and len(different) > 1
        else {}
    )
    return pd.DataFrame(shares.items(), columns=["hyperparameter", "importance"])
