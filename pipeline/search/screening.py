"""A quick look at each candidate: trained on part of the training images, judged on the validation
images.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate
from pipeline.features import engine
from pipeline.features.weights import Unavailable
from pipeline.runs import tracking
from pipeline.training import classifier, fit
from pipeline.training.augmentation import Policy
from pipeline.training.samples import Samples

LARGER_IS_BETTER = {"accuracy": True, "f1_macro": True, "log_loss": False}
NAMES = ("candidate", "name")
METRICS = tuple(f"val/{metric}" for metric in LARGER_IS_BETTER)
COSTS = ("latency/p50_ms", "size_mb", "train_seconds")
LEFT_OUT = "left_out"


def subset(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Positions of a seeded part of every class, at least one image of each."""
    random = np.random.default_rng(seed)
    of_class = [random.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    return np.sort(np.concatenate([p[: max(1, round(fraction * len(p)))] for p in of_class]))


def screen(
    candidates: Mapping[str, Candidate],
    train: Samples,
    val: Samples,
    *,
    symmetry: str,
    policy: Policy,
    seed: int,
    latency_runs: int,
) -> pd.DataFrame:
    """One row per candidate: candidate (its name), name (its title), val metrics, latency (one
    image, CPU, median), size_mb, train_seconds, and in left_out why it has none of these.

    Raises FieldmarkError where every candidate is left out.
    """
    rows = []
    for name, candidate in candidates.items():
        print(f"candidate {name}: {candidate.title}", flush=True)
        settings = {
            "seed": seed,
            "symmetry": symmetry,
            "n_train": len(train),
            **candidate.model_dump(),
        }
        row: dict[str, Any] = {"candidate": name, "name": candidate.title}
        try:
            with tracking.trial_run(candidate.title, settings):
                row |= _measured(candidate, train, val, symmetry, policy, seed, latency_runs)
            shown = [f"{key} {value:.4g}" for key, value in row.items() if key not in NAMES]
            print("  " + ", ".join(shown), flush=True)
        except Unavailable as reason:
            row[LEFT_OUT] = str(reason)
            print(f"  left out: {reason}", flush=True)
        rows.append(row)
    board = pd.DataFrame(rows, columns=[*NAMES, *METRICS, *COSTS, LEFT_OUT])
    board[LEFT_OUT] = board[LEFT_OUT].fillna("")
    if (board[LEFT_OUT] != "").all():
        raise FieldmarkError("; ".join(board[LEFT_OUT]))
    return board


def _measured(
    candidate: Candidate,
    train: Samples,
    val: Samples,
    symmetry: str,
    policy: Policy,
    seed: int,
    latency_runs: int,
) -> dict[str, float]:
    start = time.perf_counter()
    fitted = fit.fit(candidate, train, val, symmetry=symmetry, policy=policy, seed=seed)
    seconds = time.perf_counter() - start
    assert fitted.val_logits is not None
    weights = fitted.network.state_dict().values()
    row = {
        **classifier.validation(fitted.val_logits, val.labels),
        "latency/p50_ms": engine.latency_ms(fitted.network, train[0].shape[0], latency_runs),
        "size_mb": sum(t.numel() * t.element_size() for t in weights) / 1e6,
        "train_seconds": seconds,
    }
    tracking.log_history(fitted.history)
    tracking.log_metrics(row, step=len(fitted.history))
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
        "busy, measure again: dvc repro --single-item --force model-search && dvc repro"
        for _, row in ranked[ahead & ~ranked["within_budget"]].iterrows()
    ]
