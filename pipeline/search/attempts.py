"""One trial of a study, from what was asked to how it ended: what runs on an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.compute import parallel
from pipeline.config.schema import Candidate, Tune
from pipeline.search import space
from pipeline.search.asking import Pruning
from pipeline.search.trial import Outcome, Report
from pipeline.training.conditions import computing_with


@runtime_checkable
class Objective(Protocol):
    """Tries a candidate, and reports each of its epochs."""

    def __call__(self, candidate: Candidate, *, report: Report) -> Outcome: ...


@dataclass(frozen=True)
class Question:
    """All that a trial of a study depends on; past: the trials of complete batches."""

    winner: Candidate
    settings: Tune
    past: Sequence[FrozenTrial]
    asked: FrozenTrial


def attempt(objective: Objective, question: Question) -> FrozenTrial:
    """The trial as it ended: complete, or stopped, also where the training diverged.

    Its user attributes are history (the numbers of each epoch), why (it was stopped), seconds,
    the share of them in which it waited for images, where it did, and whether it was remembered.
    """
    asked, settings = question.asked, question.settings
    candidate = space.chosen(question.winner, asked.params)
    pruning = Pruning(settings, question.past, asked.number, candidate.fit.epochs)
    metric = f"val/{settings.metric}"

    def report(epoch: dict[str, float]) -> str:
        number = int(epoch["epoch"])
        stop = pruning.should_stop(epoch[metric], number)
        return f"after epoch {number + 1}" if stop else ""

    start = datetime.now()
    with computing_with(threads(candidate, settings)):
        outcome = objective(candidate, report=report)
    return _ended(asked, pruning.reported(), outcome, metric, start)


def threads(candidate: Candidate, settings: Tune) -> int:
    """How many a trial computes with, on every engine: results of several differ in the last
    digits.

    A head is too small to gain from several. tune.threads is for whole networks.
    """
    return 1 if candidate.frozen else settings.threads or parallel.N_CORES


def _ended(
    asked: FrozenTrial, reported: FrozenTrial, outcome: Outcome, metric: str, start: datetime
) -> FrozenTrial:
    complete = outcome.end == "complete"
    values = list(reported.intermediate_values.values())
    trial = optuna.trial.create_trial(
        # One that diverged counts as stopped: asked again, it would diverge again.
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        value=outcome.history[-1][metric] if complete else values[-1] if values else None,
        params=asked.params,
        distributions=asked.distributions,
        intermediate_values=reported.intermediate_values,
        system_attrs={**asked.system_attrs, **reported.system_attrs},
        user_attrs={
            "history": outcome.history,
            "why": outcome.why,
            "seconds": outcome.train_seconds,
            **({"waiting_share": outcome.waiting_share} if outcome.waiting_share >= 0 else {}),
            "remembered": outcome.remembered,
        },
    )
    trial.number, trial.datetime_start = asked.number, start
    return trial
