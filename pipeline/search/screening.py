"""Successive halving: each candidate is tried on little, the best go on to more.

Every candidate of a rung learns from the same images and is judged by the same ones. A trial is
remembered by what is asked of it, so one more candidate is tried alone: on each rung the others have
been before. That holds for two rungs; with three it can let one in that ended on the second.
Jamieson and Talwalkar, AISTATS 2016.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, ModelSearch, Rung
from pipeline.features.weights import Unavailable
from pipeline.runs import tracking
from pipeline.search import judgement, trial
from pipeline.search.judgement import METRICS, Judged
from pipeline.search.trial import Budget, Data, Outcome

LARGER_IS_BETTER = {"accuracy": True, "f1_macro": True, "log_loss": False}
NAMES = ("candidate", "name")
FIGURES = tuple(f"val/{metric}{end}" for metric in METRICS for end in ("", "_low", "_high"))
COSTS = ("latency/p50_ms", "latency/batch_ms", "size_mb", "train_seconds", "peak_mb")
SHOWN = (*FIGURES[::3], *COSTS)
RUNG, STOPPED, LEFT_OUT = "rung", "stopped", "left_out"


@dataclass(frozen=True)
class Screened:
    """board: one row per candidate, as it was on the last rung that it reached; see `screen`.
    judged, figures: of each rung, by the names of its candidates.
    """

    board: pd.DataFrame
    judged: list[dict[str, Judged]]
    figures: list[dict[str, dict[str, float]]]


@dataclass(frozen=True)
class _Asked:
    """What is asked of every candidate."""

    parts: Sequence[Data]
    settings: ModelSearch
    seed: int
    run_id: str


def screen(
    candidates: Mapping[str, Candidate],
    data: Data,
    settings: ModelSearch,
    *,
    seed: int,
    run_id: str,
) -> Screened:
    """The board has the columns candidate (its name), name (its title), FIGURES, COSTS, rung (from
    1), stopped (why it went on to no further rung) and left_out (why it has no figures at all).

    Each trial is a run below run_id. Raises FieldmarkError where every candidate is left out.
    """
    end = time.monotonic() + 60 * (settings.budget_minutes or float("inf"))
    asked = _Asked(judgement.parts(data, settings.cross_validation, seed), settings, seed, run_id)
    rows = {
        name: {"candidate": name, "name": candidate.title, RUNG: 0, STOPPED: "", LEFT_OUT: ""}
        for name, candidate in candidates.items()
    }
    result = Screened(pd.DataFrame(), [], [])
    entrants = list(candidates)
    for number, rung in enumerate(settings.rungs, 1):
        if number > 1:
            entrants = _promoted(rows, entrants, rung, number, settings)
        print(f"rung {number} of {len(settings.rungs)}: {len(entrants)} candidates", flush=True)
        result.judged.append({})
        result.figures.append({})
        for name in entrants:
            if time.monotonic() > end and result.figures[0]:
                spent = f"model_search.budget_minutes = {settings.budget_minutes:g} were spent"
                column = STOPPED if number > 1 else LEFT_OUT
                rows[name][column] = f"not tried on rung {number}: {spent}"
            else:
                _step(candidates[name], number, asked, rows[name], result)
    board = pd.DataFrame(
        [*rows.values()], columns=[*NAMES, *FIGURES, *COSTS, RUNG, STOPPED, LEFT_OUT]
    )
    if (board[LEFT_OUT] != "").all():
        raise FieldmarkError("; ".join(board[LEFT_OUT]))
    return Screened(board, result.judged, result.figures)


def excess(row: Mapping[Any, Any], settings: ModelSearch) -> str:
    """Which hard limit a candidate exceeds, "" where it exceeds none."""
    if row["latency/p50_ms"] > settings.latency_budget_ms:
        return (
            f"{row['latency/p50_ms']:.0f} ms for an image, and model_search.latency_budget_ms is "
            f"{settings.latency_budget_ms:g}"
        )
    if settings.size_budget_mb is not None and row["size_mb"] > settings.size_budget_mb:
        return (
            f"{row['size_mb']:.1f} MB, and model_search.size_budget_mb is "
            f"{settings.size_budget_mb:g}"
        )
    return ""


def _promoted(
    rows: Mapping[str, dict[str, Any]],
    entrants: Sequence[str],
    rung: Rung,
    number: int,
    settings: ModelSearch,
) -> list[str]:
    """Who goes on to this rung, the best first; the others' rows say why they do not."""
    tried = [name for name in entrants if rows[name][RUNG] == number - 1]
    sign = -1 if LARGER_IS_BETTER[settings.metric] else 1
    tried.sort(key=lambda name: sign * rows[name][f"val/{settings.metric}"])
    for name in tried:
        rows[name][STOPPED] = excess(rows[name], settings)
    within = [name for name in tried if not rows[name][STOPPED]]
    places = rung.candidates or len(within)
    for place, name in enumerate(within[places:], places + 1):
        rows[name][STOPPED] = f"place {place} on rung {number - 1}, of which {places} went on"
    return within[:places]


def _step(
    candidate: Candidate, number: int, asked: _Asked, row: dict[str, Any], result: Screened
) -> None:
    """Try a candidate on one rung, and enter what came of it in its row and in the result."""
    several, title = len(asked.settings.rungs) > 1, candidate.title
    budget = _budget(number, asked)
    plain = {"seed": asked.seed, "symmetry": asked.parts[0].symmetry, "rung": number}
    record = {**plain, "parts": len(asked.parts), **asdict(budget), **candidate.model_dump()}
    print(f"candidate {candidate.name}: {title}", flush=True)
    try:
        name = f"{title}, rung {number}" if several else title
        with tracking.trial_run(asked.run_id, name, record) as own:
            outcomes = _outcomes(candidate, budget, asked)
            remembered = all(outcome.remembered for outcome in outcomes)
            print("  remembered\n" * remembered, end="", flush=True)
            tracking.tag({"trial.remembered": str(remembered).lower()}, own)
            tracking.log_history(outcomes[0].history, own)
            why = outcomes[-1].why
            if not why:
                judged = judgement.judged(outcomes, asked.parts)
                figures = judgement.figures(judged, asked.settings.bootstrap, asked.seed)
                figures |= _costs(outcomes)
                tracking.log_metrics(figures, step=len(outcomes[0].history), run_id=own)
    except Unavailable as reason:
        why = str(reason)
    if why:
        row[STOPPED if number > 1 else LEFT_OUT] = why
        print(f"  left out: {why}", flush=True)
        return
    row |= {**figures, RUNG: number}
    result.judged[-1][candidate.name], result.figures[-1][candidate.name] = judged, figures
    words = [f"{key} {value:.4g}" for key, value in figures.items() if key in SHOWN]
    print("  " + ", ".join(words), flush=True)


def _budget(number: int, asked: _Asked) -> Budget:
    """Latency is measured where a candidate starts, so that a later measurement cannot exclude it;
    that of a batch, which takes longer, only on the last rung.
    """
    settings, rung = asked.settings, asked.settings.rungs[number - 1]
    n_train = min(len(part.train) for part in asked.parts)
    return Budget(
        fraction=min(1.0, max(rung.train_fraction, settings.min_train_images / n_train)),
        latency_runs=settings.latency_runs if number == 1 else 0,
        epochs=rung.epochs_fraction,
        one_view=rung.one_view,
        batch_runs=settings.batch_runs if number == len(settings.rungs) else 0,
    )


def _outcomes(candidate: Candidate, budget: Budget, asked: _Asked) -> list[Outcome]:
    """A trial for each of the parts, up to the first that does not end; costs are measured once."""
    outcomes: list[Outcome] = []
    for part in asked.parts:
        outcomes.append(trial.tried(candidate, part, budget, asked.seed))
        if outcomes[-1].end != "complete":
            break
        budget = replace(budget, latency_runs=0, batch_runs=0)
    return outcomes


def _costs(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Those that were measured; the time of all parts together."""
    costs = {
        "latency/p50_ms": outcomes[0].latency_ms,
        "latency/batch_ms": outcomes[0].batch_ms,
        "size_mb": outcomes[0].size_mb,
        "train_seconds": sum(outcome.train_seconds for outcome in outcomes),
        "peak_mb": max(outcome.peak_mb for outcome in outcomes),
        "waiting_share": outcomes[0].waiting_share,  # for MLflow alone
    }
    return {name: value for name, value in costs.items() if not np.isnan(value)}
