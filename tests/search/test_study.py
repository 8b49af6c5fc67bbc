import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toys import HOG, candidate

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Tune
from pipeline.search import study as search
from pipeline.search.trial import Outcome, Report

SPACE = {
    "fit.lr": {"low": 0.001, "high": 0.1, "log": True},
    "head.hidden": {"choices": [8, 16, 32]},
}
Asked = list[tuple[float, int]]
DIVERGED = Outcome("diverged", "too fast", [], None, 0.0)


def winner(space: dict[str, Any] = SPACE, **changes: Any) -> Candidate:
    head = {"kind": "mlp", "hidden": 16, "dropout": 0.1}
    return candidate(HOG, **{"frozen": True, "head": head, "space": space, **changes})


def settings(**changes: Any) -> Tune:
    usual = {
        "trials": 9,
        "metric": "log_loss",
        "startup_trials": 3,
        "prune_after_epochs": 1,
        "refit": "train",
    }
    return Tune.model_validate({**usual, **changes})


def ended(value: float, metric: str = "log_loss") -> Outcome:
    """A trial that went through all its epochs."""
    return Outcome("complete", "", [{"epoch": 0.0, f"val/{metric}": value}], None, 0.0)


def loss(asked: Candidate) -> float:
    """Least at lr 0.01 and 32 hidden units."""
    return abs(math.log10(asked.fit.lr) + 2) + 1 / asked.head.hidden


def run(
    scratch: Path,
    *,
    kill_at: int | None = None,
    seed: int = 0,
    tune: Tune | None = None,
    **changes: Any,
) -> tuple[optuna.Study, Asked]:
    """Search with the loss above; the process dies in the middle of the trial asked for in place
    `kill_at`.
    """
    asked: Asked = []

    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        asked.append((turned.fit.lr, turned.head.hidden))
        if len(asked) - 1 == kill_at:
            raise KeyboardInterrupt
        return ended(loss(turned))

    scratch.mkdir(exist_ok=True)
    return search.search(
        winner(**changes), tune or settings(), objective, seed=seed, scratch=scratch
    ), asked


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_the_first_trial_is_the_configuration_itself(tmp_path: Path) -> None:
    study, asked = run(tmp_path)
    assert asked[0] == (0.02, 16)
    assert study.trials[0].params == {"fit.lr": 0.02, "head.hidden": 16}


def test_the_configuration_is_tried_also_where_it_lies_outside_the_space(tmp_path: Path) -> None:
    """Someone who sets a value has not always moved the range of its search as well."""
    head = {"kind": "mlp", "hidden": 10, "dropout": 0.1}
    _, asked = run(tmp_path, tune=settings(trials=2), lr=0.5, head=head)
    assert asked[0] == (0.5, 10)


def test_the_best_is_found_and_no_worse_than_the_configuration(tmp_path: Path) -> None:
    study, _ = run(tmp_path)
    best = search.chosen(winner(), study.best_params)
    assert loss(best) == min(trial.value for trial in study.trials) <= loss(winner())  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("metric", "best"), [("accuracy", 0.9), ("f1_macro", 0.9), ("log_loss", 0.1)]
)
def test_each_metric_is_searched_in_its_direction(metric: str, best: float, tmp_path: Path) -> None:
    values = [0.5, 0.9, 0.1, 0.3]
    study = search.search(
        winner(),
        settings(metric=metric, trials=4),
        lambda _, number, __: ended(values[number], metric),
        seed=0,
        scratch=tmp_path,
    )
    assert study.best_value == best


@pytest.mark.parametrize("kill_at", [0, 1, 5, 8])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path: Path, kill_at: int) -> None:
    _, whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kill_at=kill_at)
    study, rest = run(tmp_path / "killed")
    assert whole[:kill_at] + rest == whole
    assert states(study).count(TrialState.COMPLETE) == 9
    assert states(study).count(TrialState.RUNNING) == 0


def test_a_search_killed_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, kill_at=2)
    study, rest = run(tmp_path)
    assert (
        len(rest),
        states(study).count(TrialState.COMPLETE),
        states(study).count(TrialState.FAIL),
    ) == (3, 9, 3)


def test_a_kill_before_the_first_trial_starts_does_no_harm(tmp_path: Path) -> None:
    search._study(settings(), tmp_path).enqueue_trial({"fit.lr": 0.02, "head.hidden": 16})
    study, asked = run(tmp_path)
    assert asked[0] == (0.02, 16)
    assert states(study).count(TrialState.COMPLETE) == 9


def test_a_finished_search_asks_nothing_more(tmp_path: Path) -> None:
    run(tmp_path)
    study, asked = run(tmp_path)
    assert asked == []
    assert len(study.trials) == 9


def test_the_number_of_trials_is_the_total(tmp_path: Path) -> None:
    run(tmp_path, tune=settings(trials=4))
    study, asked = run(tmp_path, tune=settings(trials=6))
    assert (len(asked), len(study.trials)) == (2, 6)


def test_the_search_follows_the_seed(tmp_path: Path) -> None:
    first, again, other = (
        run(tmp_path / name, seed=seed)[1] for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


def test_what_is_on_or_off_can_be_searched_and_is_found_again_after_a_kill(tmp_path: Path) -> None:
    tried: list[bool] = []

    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        tried.append(turned.average_views)
        return ended(float(not turned.average_views))

    space = {"average_views": {"choices": [True, False]}}
    for trials in (3, 8):
        study = search.search(
            winner(space), settings(trials=trials), objective, seed=0, scratch=tmp_path
        )
    assert set(tried) == {True, False}
    assert search.chosen(winner(space), study.best_params).average_views is True


@pytest.mark.parametrize("log", [True, False])
def test_the_space_is_searched_as_it_is_written(log: bool, tmp_path: Path) -> None:
    study, _ = run(
        tmp_path,
        tune=settings(trials=1),
        space={**SPACE, "fit.lr": {"low": 0.001, "high": 0.1, "log": log}},
    )
    lr, hidden = (study.trials[0].distributions[key] for key in ("fit.lr", "head.hidden"))
    assert (lr.low, lr.high, lr.log, hidden.choices) == (0.001, 0.1, log, (8, 16, 32))  # type: ignore[attr-defined]


def test_an_empty_space_is_one_trial(tmp_path: Path) -> None:
    study, asked = run(tmp_path, space={})
    assert (len(asked), study.best_params) == (1, {})
    assert run(tmp_path, space={})[1] == []


def test_bad_trials_are_stopped_early_and_counted(tmp_path: Path) -> None:
    seen: list[int] = []

    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        value = 0.1 if number < 3 else 5.0
        for epoch in range(6):
            seen.append(number)
            if why := report({"epoch": float(epoch), "val/log_loss": value, "val/accuracy": 0.5}):
                return Outcome("stopped", why, [], None, 0.0)
        return ended(value)

    study = search.search(
        winner(), settings(trials=6, prune_after_epochs=2), objective, seed=0, scratch=tmp_path
    )
    assert states(study) == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED] * 3
    assert [seen.count(number) for number in range(6)] == [6, 6, 6, 3, 3, 3]
    assert study.best_trial.number == 0


def test_a_search_goes_on_after_a_training_that_diverged(tmp_path: Path) -> None:
    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        if turned.fit.lr > 0.01:
            return DIVERGED
        return ended(loss(turned))

    study = search.search(winner(lr=0.005), settings(trials=8), objective, seed=0, scratch=tmp_path)
    assert len(study.trials) == 8
    assert set(states(study)) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert study.best_params["fit.lr"] <= 0.01


def test_a_search_in_which_all_diverge_says_what_to_do(tmp_path: Path) -> None:
    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        return DIVERGED

    with pytest.raises(FieldmarkError, match="diverged in every trial of tune; lower fit.lr"):
        search.search(winner(), settings(trials=3), objective, seed=0, scratch=tmp_path)


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    asked: list[int] = []

    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        asked.append(turned.fit.epochs)
        return ended(1.0)

    space = {"fit.epochs": {"low": 2, "high": 9}}
    search.search(winner(space), settings(trials=4), objective, seed=0, scratch=tmp_path)
    assert asked[0] == 3 and all(2 <= n <= 9 for n in asked)


@pytest.mark.parametrize("log", [True, False])
def test_a_value_that_was_switched_off_may_be_searched(tmp_path: Path, log: bool) -> None:
    space = {"fit.weight_decay": {"low": 0.01, "high": 0.3, "log": log}}
    asked: list[float] = []

    def objective(turned: Candidate, number: int, report: Report) -> Outcome:
        asked.append(turned.fit.weight_decay)
        return ended(turned.fit.weight_decay)

    search.search(
        winner(space, weight_decay=0.0), settings(trials=8), objective, seed=0, scratch=tmp_path
    )
    assert asked[0] == 0.0 and all(0 <= value <= 0.3 for value in asked)


def test_chosen_values_take_their_places() -> None:
    turned = search.chosen(winner(), {"fit.lr": 0.5, "head.dropout": 0.25})
    assert (turned.fit.lr, turned.head.dropout, turned.head.hidden) == (0.5, 0.25, 16)
    assert search.value(turned, "head.dropout") == 0.25


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout"):
        search.chosen(winner(), {"head.dropout": 1.5})


@pytest.mark.parametrize(
    "half", ["", '{"op_code":6,"wor'], ids=["after the lock was taken", "in the middle of a line"]
)
def test_a_search_killed_while_it_wrote_goes_on(
    half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """optuna waited for ever for its lock, since that points from a relative path to nowhere."""
    monkeypatch.chdir(tmp_path)
    scratch = Path("scratch")
    with pytest.raises(KeyboardInterrupt):
        run(scratch, kill_at=4)
    (scratch / "study.journal.lock").symlink_to("scratch/study.journal")
    with (scratch / "study.journal").open("a") as journal:
        journal.write(half)
    study, _ = run(scratch)
    assert states(study).count(TrialState.COMPLETE) == 9
    assert study.get_trials()[-1].params == run(tmp_path / "undisturbed")[0].get_trials()[-1].params
