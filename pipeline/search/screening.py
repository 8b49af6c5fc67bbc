"""A quick look at each candidate: trained on part of the training images, judged on the validation
images.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate
from pipeline.features.weights import Unavailable
from pipeline.runs import tracking
from pipeline.search import trial
from pipeline.search.trial import Budget, Data

LARGER_IS_BETTER = {"accuracy": True, "f1_macro": True, "log_loss": False}
NAMES = ("candidate", "name")
METRICS = tuple(f"val/{metric}" for metric in LARGER_IS_BETTER)
COSTS = ("latency/p50_ms", "size_mb", "train_seconds")
LEFT_OUT = "left_out"


def screen(
    candidates: Mapping[str, Candidate], data: Data, budget: Budget, *, seed: int, run_id: str
) -> pd.DataFrame:
    """One row per candidate: candidate (its name), name (its title), val metrics, latency (one
    image, CPU, median), size_mb, train_seconds, and in left_out why it has none of these.

    Each trial is a run below run_id. Raises FieldmarkError where every candidate is left out.
    """
    rows = []
    for name, candidate in candidates.items():
        print(f"candidate {name}: {candidate.title}", flush=True)
        row: dict[str, Any] = {"candidate": name, "name": candidate.title, LEFT_OUT: ""}
        try:
            row |= _screened(candidate, data, budget, seed, run_id)
        except Unavailable as reason:
            row[LEFT_OUT] = str(reason)
        shown = [f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, float)]
        print("  " + (", ".join(shown) or f"left out: {row[LEFT_OUT]}"), flush=True)
        rows.append(row)
    board = pd.DataFrame(rows, columns=[*NAMES, *METRICS, *COSTS, LEFT_OUT])
    if (board[LEFT_OUT] != "").all():
        raise FieldmarkError("; ".join(board[LEFT_OUT]))
    return board


def _screened(
    candidate: Candidate, data: Data, budget: Budget, seed: int, run_id: str
) -> dict[str, Any]:
    settings = {"seed": seed, "symmetry": data.symmetry, **asdict(budget), **candidate.model_dump()}
    with tracking.trial_run(run_id, candidate.title, settings) as own:
        outcome = trial.tried(candidate, data, budget, seed)
        if outcome.remembered:
            print("  remembered", flush=True)
        tracking.tag({"trial.remembered": str(outcome.remembered).lower()}, own)
        tracking.log_history(outcome.history, own)
        if outcome.end != "complete":
            return {LEFT_OUT: outcome.why}
        row = {
            **trial.metrics(outcome, data),
            "latency/p50_ms": outcome.latency_ms,
            "size_mb": outcome.size_mb,
            "train_seconds": outcome.train_seconds,
        }
        tracking.log_metrics(row, step=len(outcome.history), run_id=own)
    return row


def rank(board: pd.DataFrame, metric: str, latency_budget_ms: float) -> pd.DataFrame:
    """The leaderboard, best first, those over the latency budget behind the others, those left out
    last; equal ones by latency.

    Raises FieldmarkError when no candidate is within the budget.
    """
    ranked = board.assign(within_budget=board["latency/p50_ms"] <= latency_budget_ms)
    if not ranked["within_budget"].any():
        fastest = board["latency/p50_ms"].min()
        raise FieldmarkError(
            f"no candidate answers within model_search.latency_budget_ms = "
            f"{latency_budget_ms:g}: the fastest takes "
            f"{fastest:.1f} ms; raise the budget, lower preprocess.size_px, or set "
            f"average_views: false"
        )
    by = ["within_budget", f"val/{metric}", "latency/p50_ms"]
    return ranked.sort_values(
        by, ascending=[False, not LARGER_IS_BETTER[metric], True], kind="stable", ignore_index=True
    )


def left_out(ranked: pd.DataFrame) -> list[str]:
    """A sentence for each candidate of a leaderboard that could not be tried."""
    rows = ranked[ranked[LEFT_OUT] != ""].to_dict("records")
    return [f"{row['name']} was left out: {row[LEFT_OUT]}" for row in rows]


def better_but_slow(ranked: pd.DataFrame, metric: str, latency_budget_ms: float) -> list[str]:
    """A sentence for each candidate of a leaderboard that beats the winner and is left out for its
    latency.
    """
    column, winner = f"val/{metric}", ranked.iloc[0]
    ahead = (
        ranked[column] > winner[column]
        if LARGER_IS_BETTER[metric]
        else ranked[column] < winner[column]
    )
    return [
        f"{row['name']} was better, {column} {row[column]:.3g} against {winner[column]:.3g}, "
        f"and was left out: {row['latency/p50_ms']:.0f} ms "
        f"for an image, and model_search.latency_budget_ms is {latency_budget_ms:g}. Raise "
        f"that, or, if the machine was "
        "busy, measure again: fieldmark cache trials --clear && dvc repro --single-item --force "
        "model-search && dvc repro"
        for _, row in ranked[ahead & ~ranked["within_budget"]].iterrows()
    ]
