"""The Optuna study over the winner's hyperparameters: seeded, pruned, resumed after a kill.

optuna's journal in the scratch folder keeps every trial as it ends. The sampler is seeded anew for
each trial by the number of those that count, so a study that was killed and resumed asks what an
uninterrupted one would have asked.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Range, Tune
from pipeline.search.screening import LARGER_IS_BETTER
from pipeline.search.trial import Outcome, Report

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
Objective = Callable[[Candidate, int, Report], Outcome]


def search(
    winner: Candidate, settings: Tune, objective: Objective, *, seed: int, scratch: Path
) -> optuna.Study:
    """Run trials until `settings.trials` count. The first one is the configuration as it stands.

    objective: (candidate, trial number, report) -> outcome; `report` says of each epoch's numbers
    why the trial should be stopped. One that diverged counts as pruned, too. Raises FieldmarkError
    where no trial ended.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(settings, scratch)
    space = winner.space
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # left over from a killed process
    while (done := len(study.get_trials(deepcopy=False, states=COUNTED))) < settings.trials and (
        space or not done
    ):
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + done, n_startup_trials=settings.startup_trials
        )
        if not done and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.enqueue_trial({key: value(winner, key) for key in space})
        study.optimize(lambda trial: _try(trial, winner, space, settings, objective), n_trials=1)
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise FieldmarkError(
            "the training diverged in every trial of tune; lower fit.lr and the range in space"
        )
    return study


def chosen(candidate: Candidate, params: Mapping[str, Any]) -> Candidate:
    """The candidate with some hyperparameters set by their dotted names (`fit.lr`,
    `head.dropout`).
    """
    node = candidate.model_dump()
    for key, value in params.items():
        *path, last = key.split(".")
        inner = node
        for part in path:
            inner = inner[part]
        inner[last] = value
    return Candidate.model_validate(node)


def value(candidate: Candidate, key: str) -> Any:
    """One value of the candidate by its dotted name."""
    node: Any = candidate.model_dump()
    for part in key.split("."):
        node = node[part]
    return node


def _study(settings: Tune, scratch: Path) -> optuna.Study:
    journal = scratch / "study.journal"
    _mend(journal)
    return optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        pruner=optuna.pruners.MedianPruner(settings.startup_trials, settings.prune_after_epochs),
        direction="maximize" if LARGER_IS_BETTER[settings.metric] else "minimize",
        load_if_exists=True,
    )


def _mend(journal: Path) -> None:
    """Remove what a process leaves that is killed while it writes; only one runs a search, so
    nobody holds this lock.
    """
    for left in journal.parent.glob(f"{journal.name}.lock*"):
        left.unlink()  # Optuna would wait for it for ever
    if journal.exists():
        whole, end, _ = journal.read_bytes().rpartition(b"\n")
        os.truncate(journal, len(whole + end))  # a line that follows half a line could not be read


def _try(
    trial: optuna.Trial,
    winner: Candidate,
    space: Mapping[str, Range],
    settings: Tune,
    objective: Objective,
) -> float:
    candidate = chosen(
        winner,
        {key: _suggested(trial, key, span, value(winner, key)) for key, span in space.items()},
    )

    def report(epoch: dict[str, float]) -> str:
        trial.report(epoch[f"val/{settings.metric}"], int(epoch["epoch"]))
        return f"after epoch {int(epoch['epoch']) + 1}" if trial.should_prune() else ""

    outcome = objective(candidate, trial.number, report)
    if outcome.end != "complete":
        raise optuna.TrialPruned(outcome.why)  # diverged: asked again, it would diverge again
    return outcome.history[-1][f"val/{settings.metric}"]


def _suggested(trial: optuna.Trial, key: str, span: Range, now: Any) -> Any:
    """Asked of the range, stretched to where the configuration stands; whole numbers where it has
    one.
    """
    if span.choices is not None:
        return trial.suggest_categorical(
            key, [*span.choices, *([] if now in span.choices else [now])]
        )
    assert span.low is not None and span.high is not None
    low, high = min(span.low, now), max(span.high, now)
    log = span.log and low > 0  # what was switched off cannot be searched by its logarithm
    if isinstance(now, int):
        return trial.suggest_int(key, int(low), int(high), log=log)
    return trial.suggest_float(key, low, high, log=log)
