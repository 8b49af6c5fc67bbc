"""The Optuna study over the winner's hyperparameters: seeded, stopped early, resumed after a kill.

A study is named by all that decides on its trials, and kept (see studies) as they end, in the order
of their numbers. One that was killed goes on where it stood; a trial that had ended and was not
written yet is in the memo. So it ends as an undisturbed one, wherever its trials run.
"""

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Tune
from pipeline.search import asking, engines, studies
from pipeline.search.attempts import Objective, Question, attempt, threads
from pipeline.search.engines import Engine
from pipeline.storage.code import code_hash

OnEnd = Callable[[FrozenTrial], None]
LATER = {
    "trials",
    "budget_minutes",
    "refit",
    "refit_seeds",
    "keep_untuned",
}  # settings that decide on no trial


def search(
    winner: Candidate,
    settings: Tune,
    objective: Objective,
    *,
    seed: int,
    about: str,
    on_end: OnEnd = lambda trial: None,
) -> optuna.Study:
    """A study of `settings.trials` trials in all; the first is the configuration as it stands.

    objective: (candidate, report=...) -> outcome; `report` says of each epoch's numbers why the trial
    should be stopped. It is pickled where FIELDMARK_ENGINE is not local. about: names all else that
    decides on its outcomes, such as the images. on_end: called with each trial, in order, also
    those that had ended before. Raises FieldmarkError where no trial was complete.
    """
    end = time.monotonic() + 60 * (settings.budget_minutes or float("inf"))
    total = settings.trials if winner.space else 1
    with studies.opened(name(winner, settings, seed, about), asking.direction(settings)) as kept:
        ended = kept.get_trials()[:total]
        for trial in ended:
            trial.user_attrs["remembered"] = True
            on_end(trial)

        def run(engine: Engine, until: int) -> None:
            while len(ended) < until and (not ended or time.monotonic() < end):
                questions = _questions(winner, settings, ended, total, seed)
                for trial in engine(partial(attempt, objective), questions):
                    _keep(kept, trial)
                    ended.append(trial)
                    on_end(trial)

        with engines.local.opened() as here:  # it fills the memo with features that others use
            run(here, until=1)
        if len(ended) < total:
            work_s = (total - len(ended)) * _mean_seconds(ended)
            with engines.opened(threads(winner, settings), work_s) as engine:
                run(engine, until=total)
    _check(ended)
    return asking.in_memory(settings, ended)


def _check(ended: list[FrozenTrial]) -> None:
    if all(trial.state != TrialState.COMPLETE for trial in ended):
        raise FieldmarkError(
            "the training diverged in every trial of tune; lower fit.lr and the range in space"
        )


def _keep(kept: optuna.Study, trial: FrozenTrial) -> None:
    """Add a trial, unless another process that runs the same study has."""
    if len(kept.get_trials(deepcopy=False)) == trial.number:
        kept.add_trial(trial)


def _mean_seconds(ended: list[FrozenTrial]) -> float:
    return sum(float(trial.user_attrs["seconds"]) for trial in ended) / len(ended)


def name(winner: Candidate, settings: Tune, seed: int, about: str) -> str:
    """Of the study of this winner: the same for the same trials."""
    decides = {
        "winner": winner.model_dump(),
        "settings": settings.model_dump(exclude=LATER),
        "seed": seed,
        "about": about,
        "code": code_hash(__name__),
        "optuna": optuna.__version__,
    }
    digest = hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=6)
    return f"{winner.name} {digest.hexdigest()}"


def _questions(
    winner: Candidate, settings: Tune, ended: list[FrozenTrial], total: int, seed: int
) -> list[Question]:
    """Of the batch of the next trial those that have not ended."""
    numbers = asking.batch(len(ended), settings.batch, total)
    past = ended[: numbers.start]
    asked = asking.ask(winner, settings, past, len(numbers), seed)
    return [Question(winner, settings, past, each) for each in asked[len(ended) - numbers.start :]]
