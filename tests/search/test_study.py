import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toys import HOG, candidate

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate, Tune
from pipeline.search import asking, records, space, studies
from pipeline.search import study as search
from pipeline.search.attempts import Objective
from pipeline.search.trial import Outcome, Report

SPACE = {
    "fit.lr": {"low": 0.001, "high": 0.1, "log": True},
    "head.hidden": {"choices": [8, 16, 32]},
}
Asked = list[tuple[float, int]]
DIVERGED = Outcome("diverged", "too fast", [], None, 0.0)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project folder of one's own, in which studies are kept."""
    monkeypatch.chdir(tmp_path)


def winner(space: dict[str, Any] = SPACE, **changes: Any) -> Candidate:
    head = {"kind": "mlp", "hidden": 16, "dropout": 0.1}
    return candidate(HOG, **{"frozen": True, "head": head, "space": space, **changes})


def settings(**changes: Any) -> Tune:
    usual = {
        "trials": 9,
        "budget_minutes": None,
        "metric": "log_loss",
        "sampler": "tpe",
        "startup_trials": 3,
        "batch": 1,
        "pruner": "median",
        "prune_after_epochs": 1,
        "threads": None,
        "refit": "train",
        "refit_seeds": 1,
        "keep_untuned": "worse",
    }
    return Tune.model_validate({**usual, **changes})


def ended(value: float, metric: str = "log_loss") -> Outcome:
    """A trial that went through all its epochs."""
    return Outcome("complete", "", [{"epoch": 0.0, f"val/{metric}": value}], None, 0.0)


def loss(asked: Candidate) -> float:
    """Least at lr 0.01 and 32 hidden units."""
    return abs(math.log10(asked.fit.lr) + 2) + 1 / asked.head.hidden


def searched(
    objective: Objective, tune: Tune | None = None, seed: int = 0, **changes: Any
) -> optuna.Study:
    return search.search(
        winner(**changes), tune or settings(), objective, seed=seed, about="these images"
    )


def run(
    *, kill_at: int | None = None, seed: int = 0, tune: Tune | None = None, **changes: Any
) -> tuple[optuna.Study, Asked]:
    """Search with the loss above; the process dies in the middle of the trial asked for in place
    `kill_at`.
    """
    asked: Asked = []

    def objective(turned: Candidate, *, report: Report) -> Outcome:
        asked.append((turned.fit.lr, turned.head.hidden))
        if len(asked) - 1 == kill_at:
            raise KeyboardInterrupt
        return ended(loss(turned))

    return searched(objective, tune, seed, **changes), asked


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on work in this project."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def test_the_first_trial_is_the_configuration_itself() -> None:
    study, asked = run()
    assert asked[0] == (0.02, 16)
    assert study.trials[0].params == {"fit.lr": 0.02, "head.hidden": 16}


def test_the_configuration_is_tried_also_where_it_lies_outside_the_space() -> None:
    """Someone who sets a value has not always moved the range of its search as well."""
    head = {"kind": "mlp", "hidden": 10, "dropout": 0.1}
    _, asked = run(tune=settings(trials=2), lr=0.5, head=head)
    assert asked[0] == (0.5, 10)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_the_best_is_no_worse_than_the_configuration(sampler: str) -> None:
    study, _ = run(tune=settings(sampler=sampler, batch=3))
    best = space.chosen(winner(), study.best_params)
    assert loss(best) == min(trial.value for trial in study.trials) <= loss(winner())  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("metric", "best"), [("accuracy", 0.9), ("f1_macro", 0.9), ("log_loss", 0.1)]
)
def test_each_metric_is_searched_in_its_direction(metric: str, best: float) -> None:
    values = iter([0.5, 0.9, 0.1, 0.3])
    study = searched(
        lambda _, report: ended(next(values), metric), settings(metric=metric, trials=4)
    )
    assert study.best_value == best


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kill_at", [0, 1, 5, 8])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    kill_at: int, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = settings(batch=batch)
    _, whole = run(tune=tune)
    elsewhere(tmp_path / "killed", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(kill_at=kill_at, tune=tune)
    study, rest = run(tune=tune)
    assert whole[:kill_at] + rest == whole
    assert states(study) == [TrialState.COMPLETE] * 9


def test_a_search_killed_again_and_again_comes_to_its_end() -> None:
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(kill_at=2)
    study, rest = run()
    assert (len(rest), states(study)) == (3, [TrialState.COMPLETE] * 9)


def test_a_finished_search_asks_nothing_more() -> None:
    run()
    study, asked = run()
    assert asked == []
    assert len(study.trials) == 9


@pytest.mark.parametrize("batch", [1, 4])
def test_the_number_of_trials_is_the_total(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that is made longer ends as one that was that long from the start."""
    run(tune=settings(trials=4, batch=batch))
    study, asked = run(tune=settings(trials=6, batch=batch))
    assert (len(asked), len(study.trials)) == (2, 6)
    elsewhere(tmp_path / "at once", monkeypatch)
    assert run(tune=settings(trials=6, batch=batch))[1][4:] == asked


def test_a_search_ends_with_the_batch_in_which_its_minutes_are_spent_and_goes_on_with_more() -> (
    None
):
    hurried = settings(budget_minutes=1e-6)
    study, _ = run(tune=hurried)
    n = len(study.trials)
    assert n == 1
    (sentence,) = records.cut_short(n, winner(), hurried)
    assert "budget_minutes = 1e-06" in sentence and "1 of 9 trials" in sentence
    whole, asked = run()
    assert (len(whole.trials), len(asked)) == (9, 8)
    assert records.cut_short(9, winner(), hurried) == []


def test_a_search_that_is_made_shorter_is_the_first_part_of_the_longer_one() -> None:
    longer, _ = run()
    study, asked = run(tune=settings(trials=4))
    assert asked == []
    assert [trial.params for trial in study.trials] == [t.params for t in longer.trials[:4]]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"weight_decay": 0.5}, {"tune": settings(batch=2)}],
    ids=["seed", "candidate", "settings"],
)
def test_another_search_has_a_study_of_its_own(change: dict[str, Any]) -> None:
    run()
    assert len(run(**change)[1]) == 9
    assert run()[1] == []


def test_the_search_follows_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = run()[1], run(seed=1)[1]
    elsewhere(tmp_path / "again", monkeypatch)
    assert first == run()[1] != other


def test_trials_of_a_batch_differ_and_know_nothing_of_each_others_results() -> None:
    """So they may run at the same time and end in any order."""

    def params(value: float) -> list[dict[str, Any]]:
        known = run(tune=settings(trials=5, batch=4, startup_trials=2))[0].trials
        known[4].value = value
        return [trial.params for trial in asking.ask(winner(), settings(), known[:1], 4, seed=0)]

    assert params(0.0) == params(9.0)
    assert len({each["fit.lr"] for each in params(0.0)}) == 4


def test_what_is_on_or_off_can_be_searched_and_is_tried_again_after_a_kill() -> None:
    tried: list[bool] = []

    def objective(turned: Candidate, *, report: Report) -> Outcome:
        tried.append(turned.average_views)
        return ended(float(not turned.average_views))

    choices = {"average_views": {"choices": [True, False]}}
    for trials in (3, 8):
        study = searched(objective, settings(trials=trials), space=choices)
    assert set(tried) == {True, False}
    assert space.chosen(winner(choices), study.best_params).average_views is True


@pytest.mark.parametrize("log", [True, False])
def test_the_space_is_searched_as_it_is_written(log: bool) -> None:
    study, _ = run(
        tune=settings(trials=1),
        space={**SPACE, "fit.lr": {"low": 0.001, "high": 0.1, "log": log}},
    )
    lr, hidden = (study.trials[0].distributions[key] for key in ("fit.lr", "head.hidden"))
    assert (lr.low, lr.high, lr.log, hidden.choices) == (0.001, 0.1, log, (8, 16, 32))  # type: ignore[attr-defined]


CONDITIONAL = {
    "head.hidden": {"choices": [8, 16], "when": {"head.kind": "mlp"}},
    "head.kind": {"choices": ["mlp", "svm"]},
    "head.C": {"low": 0.01, "high": 1.0, "log": True, "when": {"head.kind": "svm"}},
}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_hyperparameter_with_a_condition_is_searched_only_where_it_holds(sampler: str) -> None:
    tune = settings(trials=12, sampler=sampler, batch=4)
    study, _ = run(tune=tune, space=CONDITIONAL)
    names = {trial.params["head.kind"]: set(trial.params) - {"head.kind"} for trial in study.trials}
    assert names == {"mlp": {"head.hidden"}, "svm": {"head.C"}}


@pytest.mark.parametrize("name", ["head.flavour", "fit.lr"])
def test_a_condition_on_what_is_no_setting_or_has_a_condition_itself_is_refused(name: str) -> None:
    ranges = {
        "head.hidden": {"choices": [8, 16], "when": {name: "mlp"}},
        "fit.lr": {"low": 0.1, "high": 1.0, "when": {"head.kind": "mlp"}},
    }
    with pytest.raises(ValueError, match=f"{name} is no setting without a condition"):
        winner(ranges)


def test_an_empty_space_is_one_trial() -> None:
    study, asked = run(space={})
    assert (len(asked), study.best_params) == (1, {})
    assert run(space={})[1] == []


def curves(values: list[list[float]], lengths: list[int]) -> Objective:
    """Of one trial after the other the values of its epochs; notes how many it went through."""
    left = iter(values)

    def objective(turned: Candidate, *, report: Report) -> Outcome:
        history: list[dict[str, float]] = []
        for epoch, value in enumerate(next(left)):
            history.append({"epoch": float(epoch), "val/log_loss": value})
            if why := report(history[-1]):
                lengths.append(len(history))
                return Outcome("stopped", why, history, None, 0.0)
        lengths.append(len(history))
        return Outcome("complete", "", history, None, 0.0)

    return objective


def test_bad_trials_are_stopped_early_and_counted() -> None:
    lengths: list[int] = []
    values = [[0.1] * 6] * 3 + [[5.0] * 6] * 3
    study = searched(curves(values, lengths), settings(trials=6, prune_after_epochs=2))
    assert states(study) == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED] * 3
    assert lengths == [6, 6, 6, 3, 3, 3]
    assert study.best_trial.number == 0


@pytest.mark.parametrize(
    ("pruner", "wanted"),
    # asha goes on with the best third after 1, 3 and 9 epochs; hyperband starts there or later
    [("none", [9, 9, 9, 9]), ("asha", [9, 2, 2, 4]), ("hyperband", [9, 9, 9, 4])],
)
def test_a_pruner_goes_by_its_name(pruner: str, wanted: list[int]) -> None:
    lengths: list[int] = []
    values = [[0.5] * 9, [0.9] * 9, [0.8] * 9, [0.4] * 3 + [0.9] * 6]
    tune = settings(trials=4, pruner=pruner, prune_after_epochs=1)
    searched(curves(values, lengths), tune)
    assert lengths == wanted


def test_what_asha_noted_survives_a_kill() -> None:
    lengths: list[int] = []
    values = [[0.5] * 9, [0.9] * 9, [0.8] * 9, [0.4] * 3 + [0.9] * 6]
    for trials in (2, 4):
        searched(curves(values[len(lengths) :], lengths), settings(trials=trials, pruner="asha"))
    assert lengths == [9, 2, 2, 4]


def test_a_search_goes_on_after_a_training_that_diverged() -> None:
    def objective(turned: Candidate, *, report: Report) -> Outcome:
        if turned.fit.lr > 0.01:
            return DIVERGED
        return ended(loss(turned))

    study = searched(objective, settings(trials=8), lr=0.005)
    assert len(study.trials) == 8
    assert set(states(study)) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert study.best_params["fit.lr"] <= 0.01


def test_a_search_in_which_all_diverge_says_what_to_do() -> None:
    with pytest.raises(FieldmarkError, match="diverged in every trial of tune; lower fit.lr"):
        searched(lambda turned, report: DIVERGED, settings(trials=3))


def test_whole_numbers_stay_whole() -> None:
    asked: list[int] = []

    def objective(turned: Candidate, *, report: Report) -> Outcome:
        asked.append(turned.fit.epochs)
        return ended(1.0)

    searched(objective, settings(trials=4), space={"fit.epochs": {"low": 2, "high": 9}})
    assert asked[0] == 3 and all(2 <= n <= 9 for n in asked)


@pytest.mark.parametrize("log", [True, False])
def test_a_value_that_was_switched_off_may_be_searched(log: bool) -> None:
    decay = {"fit.weight_decay": {"low": 0.01, "high": 0.3, "log": log}}
    asked: list[float] = []

    def objective(turned: Candidate, *, report: Report) -> Outcome:
        asked.append(turned.fit.weight_decay)
        return ended(turned.fit.weight_decay)

    searched(objective, settings(trials=8), space=decay, weight_decay=0.0)
    assert asked[0] == 0.0 and all(0 <= value <= 0.3 for value in asked)


def test_chosen_values_take_their_places() -> None:
    turned = space.chosen(winner(), {"fit.lr": 0.5, "head.dropout": 0.25})
    assert (turned.fit.lr, turned.head.dropout, turned.head.hidden) == (0.5, 0.25, 16)
    assert space.value(turned, "head.dropout") == 0.25


def test_a_value_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout"):
        space.chosen(winner(), {"head.dropout": 1.5})


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"fit.lr": 0.0999, "head.hidden": 16}, ["The best fit.lr, 0.0999, lies at the upper end"]),
        ({"fit.lr": 0.00105, "head.hidden": 32}, ["fit.lr, 0.00105, lies at the lower", "hidden"]),
        ({"fit.lr": 0.05, "head.hidden": 16, "head.dropout": 0.0}, []),  # nothing lies below 0
    ],
    ids=["upper", "both", "inside"],
)
def test_a_best_value_at_the_end_of_its_range_is_named(
    params: dict[str, Any], named: list[str]
) -> None:
    ranges = {**SPACE, "head.dropout": {"low": 0.0, "high": 0.5}}
    sentences = space.edges(winner(ranges), params)
    assert len(sentences) == len(named)
    assert all(part in sentence for part, sentence in zip(named, sentences, strict=True))


@pytest.mark.parametrize(
    "half", ["", '{"op_code":6,"wor'], ids=["after the lock was taken", "in the middle of a line"]
)
def test_a_search_killed_while_it_wrote_goes_on(
    half: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """optuna waited for ever for its lock, since that points from a relative path to nowhere."""
    with pytest.raises(KeyboardInterrupt):
        run(kill_at=4)
    journal = studies.JOURNAL
    Path(f"{journal}.lock").symlink_to(journal)
    with journal.open("a") as file:
        file.write(half)
    study, _ = run()
    assert states(study) == [TrialState.COMPLETE] * 9
    elsewhere(tmp_path / "undisturbed", monkeypatch)
    assert study.get_trials()[-1].params == run()[0].get_trials()[-1].params


def test_a_study_in_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_STUDY_URL", "postgres:/nowhere")
    with pytest.raises(FieldmarkError, match="FIELDMARK_STUDY_URL: .*write postgresql://"):
        run()
