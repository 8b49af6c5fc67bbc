"""The best candidates of the last rung together: the mean of their probabilities, as one more candidate.

It costs no training: what its members said of the images that judge is known. Whether it wins is
for the leaderboard to say, as of any other: a member that is clearly faster and not told apart from
it on the same images goes before it. Its members keep the settings of their files: tune turns none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Head, ModelSearch
from pipeline.runs import tracking
from pipeline.search import judgement, leaderboard, screening
from pipeline.search.judgement import Judged
from pipeline.search.screening import COSTS, LEFT_OUT, RUNG, STOPPED, Screened

NAME = "ensemble"
ADDED = (*COSTS[:-1],)  # costs of the members, one after the other


def joined(
    screened: Screened,
    candidates: Mapping[str, Candidate],
    settings: ModelSearch,
    *,
    seed: int,
    run_id: str,
) -> tuple[Screened, dict[str, Candidate]]:
    """The same with the ensemble as a further row, where at least two candidates of the last rung
    are within the limits together. Raises FieldmarkError where a candidate has its name.
    """
    members = _members(screened, settings) if settings.ensemble > 1 else []
    if len(members) < 2:
        return screened, dict(candidates)
    if NAME in candidates:
        raise FieldmarkError(
            f"a candidate is called {NAME}, as model_search.ensemble is; rename it"
        )
    candidate = of([candidates[str(row["candidate"])] for row in members])
    rung = int(members[0][RUNG])
    judged = _mean([screened.judged[rung - 1][str(row["candidate"])] for row in members])
    figures = judgement.figures(judged, settings.bootstrap, seed)
    figures |= {cost: sum(row[cost] for row in members) for cost in ADDED}
    figures["peak_mb"] = max(row["peak_mb"] for row in members)
    with tracking.trial_run(run_id, candidate.title, candidate.model_dump()) as own:
        tracking.log_metrics({k: v for k, v in figures.items() if not np.isnan(v)}, run_id=own)
    words = [f"{key} {value:.4g}" for key, value in figures.items() if key in screening.SHOWN]
    print(f"candidate {NAME}: {candidate.title}\n  " + ", ".join(words), flush=True)
    row = {"candidate": NAME, "name": candidate.title, RUNG: rung, STOPPED: "", LEFT_OUT: ""}
    board = pd.concat([screened.board, pd.DataFrame([{**row, **figures}])], ignore_index=True)
    enter: tuple[Any, ...] = (screened.judged, judged), (screened.figures, figures)
    known = [
        [*rungs[: rung - 1], {**rungs[rung - 1], NAME: mine}, *rungs[rung:]]
        for rungs, mine in enter
    ]
    return replace(screened, board=board, judged=known[0], figures=known[1]), {
        **candidates,
        NAME: candidate,
    }


def of(members: Sequence[Candidate]) -> Candidate:
    """The candidate that averages their probabilities."""
    extractors = [member.extractor for member in members]
    return Candidate(
        name=NAME,
        extractor={
            "_target_": "pipeline.features.backbones.Concatenated",
            "extractors": extractors,
        },
        frozen=all(member.frozen for member in members),
        average_views=False,  # each member does as its own file says
        head=Head(kind="linear"),
        fit=members[0].fit,
        members=list(members),
    )


def _members(screened: Screened, settings: ModelSearch) -> list[dict[Any, Any]]:
    """Rows of the best of the last rung, each of which leaves the sum within the limits."""
    ranked = leaderboard.rank(screened.board, settings)
    able = ranked[ranked["within_budget"] & (ranked[RUNG] == ranked[RUNG].max())]
    chosen: list[dict[Any, Any]] = []
    for row in able.to_dict("records"):
        together = {cost: sum(each[cost] for each in [*chosen, row]) for cost in ADDED}
        if len(chosen) < settings.ensemble and not screening.excess(together, settings):
            chosen.append(row)
    return chosen


def _mean(each: Sequence[Judged]) -> Judged:
    return replace(each[0], probs=np.mean([judged.probs for judged in each], axis=0))
