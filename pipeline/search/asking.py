"""Which hyperparameters are tried next, and when a trial is stopped: functions of the settings and
of the trials of complete batches alone, so that the answer is the same wherever trials run and
whichever ends first.

Trial 0 is the configuration as it stands, a batch of its own. Of a later batch all trials are asked
for at once; a trial that is asked for knows the others of its batch as running (the constant liar
of TPE), and none of their results.
"""

from collections.abc import Callable, Sequence

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.config.schema import Candidate, Tune
from pipeline.search import space
from pipeline.search.screening import LARGER_IS_BETTER
from pipeline.search.studies import Direction

NAME = "tune"  # of every study in memory: Hyperband deals trials to brackets by it

SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {  # of a seed and of startup_trials
    "tpe": lambda seed, n: TPESampler(seed=seed, n_startup_trials=n),
    "gp": lambda seed, n: GPSampler(seed=seed, n_startup_trials=n, warn_independent_sampling=False),
    "random": lambda seed, n: RandomSampler(seed=seed),
}
PRUNERS: dict[str, Callable[[Tune, int], BasePruner]] = {  # of most epochs, too
    "none": lambda settings, epochs: NopPruner(),
    "median": lambda settings, epochs: MedianPruner(
        settings.startup_trials, settings.prune_after_epochs
    ),
    "asha": lambda settings, epochs: SuccessiveHalvingPruner(
        settings.prune_after_epochs, reduction_factor=3
    ),
    "hyperband": lambda settings, epochs: HyperbandPruner(
        settings.prune_after_epochs, max(settings.prune_after_epochs, epochs)
    ),
}


def batch(number: int, size: int, total: int) -> range:
    """The numbers of the trials that are asked for together with this one."""
    if number == 0:
        return range(1)
    start = 1 + (number - 1) // size * size
    return range(start, min(start + size, total))


def ask(
    winner: Candidate, settings: Tune, past: Sequence[FrozenTrial], n: int, seed: int
) -> list[FrozenTrial]:
    """The next n trials, running. past: all trials of complete batches."""
    study = in_memory(settings, past)
    for number in range(len(past), len(past) + n):
        study.sampler = SAMPLERS[settings.sampler](seed + number, settings.startup_trials)
        if number == 0:
            study.enqueue_trial({key: space.value(winner, key) for key in winner.space})
        space.suggest(study.ask(), winner)
    return study.get_trials(states=(TrialState.RUNNING,))


def in_memory(settings: Tune, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study of these trials that nothing writes to disk."""
    study = optuna.create_study(study_name=NAME, direction=direction(settings))
    study.add_trials(trials)
    return study


def direction(settings: Tune) -> Direction:
    """Which way the metric is better."""
    return "maximize" if LARGER_IS_BETTER[settings.metric] else "minimize"


class Pruning:
    """Says after each epoch of one trial whether it should be stopped, by the trials of complete
    batches.
    """

    def __init__(
        self, settings: Tune, past: Sequence[FrozenTrial], number: int, epochs: int
    ) -> None:
        study = in_memory(settings, past)
        study.pruner = PRUNERS[settings.pruner](settings, epochs)
        for _ in range(len(past), number):  # the others of its batch, of which nothing is known
            study.add_trial(create_trial(state=TrialState.FAIL))
        self.trial = study.ask()

    def should_stop(self, value: float, epoch: int) -> bool:
        """Whether to stop after this epoch, which ended with this value of the metric."""
        self.trial.report(value, epoch)
        return bool(self.trial.should_prune())

    def reported(self) -> FrozenTrial:
        """The trial with its values so far, and what the pruner noted of it."""
        return self.trial.study.get_trials()[-1]
