"""The order of the candidates, the choice among them, and what people are told about it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from pipeline import FieldmarkError
from pipeline.config.schema import ModelSearch
from pipeline.search import judgement
from pipeline.search.judgement import Difference
from pipeline.search.screening import LARGER_IS_BETTER, LEFT_OUT, RUNG, STOPPED, Screened, excess

LATENCY = "latency/p50_ms"


def ordered(
    screened: Screened, settings: ModelSearch, seed: int
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The leaderboard with the winner first, and the sentences of search.json: choice,
    better_but_slow, left_out.
    """
    ranked, choice = choose(rank(screened.board, settings), screened, settings, seed)
    return ranked, {
        "choice": [*_judged_by(screened), *choice, *cut_short(ranked, settings)],
        "better_but_slow": better_but_over(ranked, screened, settings),
        "left_out": left_out(ranked),
    }


def rank(board: pd.DataFrame, settings: ModelSearch) -> pd.DataFrame:
    """The board, best first: those that reached a further rung before the others, those over a limit
    behind them, those left out last; equal ones by latency. Adds within_budget and pareto (no other
    of the last rung is both better and faster).

    Raises FieldmarkError when no candidate is within the limits.
    """
    tried = board[LEFT_OUT] == ""
    over = pd.Series([excess(row, settings) for row in board.to_dict("records")], board.index)
    stopped = board[STOPPED].where(board[STOPPED] != "", over)
    ranked = board.assign(within_budget=tried & (over == ""), **{STOPPED: stopped})
    if not ranked["within_budget"].any():
        raise FieldmarkError(_nobody(board, settings))
    metric, larger = f"val/{settings.metric}", LARGER_IS_BETTER[settings.metric]
    ranked = ranked.sort_values(
        ["within_budget", RUNG, metric, LATENCY],
        ascending=[False, False, not larger, True],
        kind="stable",
        ignore_index=True,
    )
    last = (ranked[RUNG] == ranked[RUNG].max()).to_numpy()
    losses = np.where(last, ranked[metric].to_numpy(np.float64) * (-1 if larger else 1), np.inf)
    return ranked.assign(pareto=_front(losses, ranked[LATENCY].to_numpy(np.float64)))


def choose(
    ranked: pd.DataFrame, screened: Screened, settings: ModelSearch, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """The ranked board with the winner first, and a sentence where there is no clear winner.

    The fastest of those candidates wins that are clearly faster than the best and are not told
    apart from it on the same images; the one-standard-error rule (Breiman et al. 1984, section
    3.4.3) on paired differences.
    """
    best = ranked.iloc[0]
    judged = screened.judged[int(best[RUNG]) - 1]
    rivals = ranked[1:][(ranked["within_budget"] & (ranked[RUNG] == best[RUNG]))[1:]]
    alike = {}
    for place, name in rivals["candidate"].items():
        pair = judged[str(best["candidate"])], judged[str(name)]
        apart = judgement.difference(*pair, settings.metric, settings.bootstrap, seed)
        if apart.p > settings.indistinct:
            alike[place] = apart
    if not alike:
        return ranked, []
    limit = settings.clearly_faster * best[LATENCY]
    faster = [place for place in alike if ranked.loc[place, LATENCY] <= limit]
    winner = min(faster, key=lambda place: ranked.loc[place, LATENCY]) if faster else 0
    order = [winner, *(place for place in ranked.index if place != winner)]
    sentence = _no_clear_winner(ranked, alike, winner, settings.metric)
    return ranked.loc[order].reset_index(drop=True), [sentence]


def left_out(ranked: pd.DataFrame) -> list[str]:
    """A sentence for each candidate of a leaderboard that could not be tried."""
    rows = ranked[ranked[LEFT_OUT] != ""].to_dict("records")
    return [f"{row['name']} was left out: {row[LEFT_OUT]}" for row in rows]


def better_but_over(ranked: pd.DataFrame, screened: Screened, settings: ModelSearch) -> list[str]:
    """A sentence for each candidate of a leaderboard that beats the winner on the rung where it
    ended, and is left out for its latency or size.
    """
    column, sign = f"val/{settings.metric}", 1 if LARGER_IS_BETTER[settings.metric] else -1
    over = ranked[~ranked["within_budget"] & (ranked[LEFT_OUT] == "")].to_dict("records")
    sentences = []
    for row in over:
        of_winner = screened.figures[int(row[RUNG]) - 1][str(ranked["candidate"].iloc[0])][column]
        if sign * row[column] > sign * of_winner:
            sentences.append(
                f"{row['name']} was better, {column} {row[column]:.3g} against {of_winner:.3g}, and "
                f"was left out: {excess(row, settings)}. Raise that, or, if the machine was "
                "busy, measure again: fieldmark cache trials --clear && dvc repro --single-item "
                "--force model-search && dvc repro"
            )
    return sentences


def cut_short(ranked: pd.DataFrame, settings: ModelSearch) -> list[str]:
    """A sentence where the time did not suffice for all."""
    why = ranked[STOPPED].str.startswith("not tried") | ranked[LEFT_OUT].str.startswith("not tried")
    if not why.any():
        return []
    names = ", ".join(ranked.loc[why, "name"])
    return [
        f"model_search.budget_minutes = {settings.budget_minutes:g} cut the search short: {names} "
        f"would have gone on."
    ]


def _judged_by(screened: Screened) -> list[str]:
    """A sentence where candidates were judged by cross-validation."""
    judged = next(iter(screened.judged[0].values()))
    n, n_images = len(judged.image), len(set(judged.image.tolist()))
    if n == n_images:
        return []
    return [
        f"Validation images are few, so candidates were judged by cross-validation: {n_images} "
        f"training and validation images, each {n // n_images} times by a model that had not seen it."
    ]


def _nobody(board: pd.DataFrame, settings: ModelSearch) -> str:
    tried = board[board[LEFT_OUT] == ""]
    fastest, smallest = tried[LATENCY].min(), tried["size_mb"].min()
    if fastest > settings.latency_budget_ms:
        return (
            f"no candidate answers within model_search.latency_budget_ms = "
            f"{settings.latency_budget_ms:g}: the fastest takes {fastest:.1f} ms; raise the budget, "
            f"lower preprocess.size_px, or set average_views: false"
        )
    return (
        f"no candidate is within model_search.size_budget_mb = {settings.size_budget_mb:g} and "
        f"latency_budget_ms = {settings.latency_budget_ms:g}: the smallest has {smallest:.1f} MB; "
        f"raise one of them, or add a smaller candidate"
    )


def _front(
    losses: Float[np.ndarray, " n"], costs: Float[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which ones no other beats in one without losing in the other; those without figures are not."""
    better = (losses[:, None] <= losses) & (costs[:, None] <= costs)
    strictly = (losses[:, None] < losses) | (costs[:, None] < costs)
    front: Bool[np.ndarray, " n"] = ~(better & strictly).any(0) & np.isfinite(losses + costs)
    return front


def _no_clear_winner(
    ranked: pd.DataFrame, alike: Mapping[Any, Difference], winner: Any, metric: str
) -> str:
    best, chosen = ranked.iloc[0], ranked.loc[winner]
    others = "; ".join(
        f"{ranked.loc[place, 'name']} by {apart.value:.3f} ({apart.low:.3f} to {apart.high:.3f})"
        for place, apart in alike.items()
    )
    why = (
        f"{chosen['name']} was chosen for its {chosen[LATENCY]:.3g} ms for an image instead of "
        f"{best[LATENCY]:.3g}"
        if winner
        else "none of these is clearly faster, so the best was chosen"
    )
    return (
        f"No clear winner: {best['name']} has the best {metric.replace('_', ' ')}, but differs on "
        f"the same images too little from {others}; {why}."
    )
