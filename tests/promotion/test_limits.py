"""A version's figures against limits, with what so many test photos can show."""

import json

import pytest
from registered import PASSING
from scipy.stats import binomtest

from pipeline import config
from pipeline.config.schema import Promotion
from pipeline.promotion import limits
from pipeline.promotion.limits import Gate


@pytest.fixture(scope="module")
def settings() -> Promotion:
    return config.load("promotion").promotion


def of_300_photos(right: float, n: int = 75) -> dict[str, str]:
    low = binomtest(round(right * n), n).proportion_ci(0.95, method="wilson").low
    return {**PASSING, "test/accuracy": f"{right}", "test/accuracy_low": f"{low}", "test/n": f"{n}"}


def accuracy(tags: dict[str, str], settings: Promotion, **turned: float) -> list[Gate]:
    return limits.accuracy(tags, settings.model_copy(update=turned))


def test_86_percent_of_75_photos_pass_and_the_gate_says_what_they_do_not_show(
    settings: Promotion,
) -> None:
    estimate, lower = accuracy(of_300_photos(0.86), settings)
    assert (estimate.passed, lower.passed) == (True, True)
    assert estimate.note == (
        "75 test photos cannot show 80%: some 96 more of them are needed, or another limit"
    )


def test_where_the_floor_must_be_proved_they_are_refused_in_the_same_words(
    settings: Promotion,
) -> None:
    estimate, lower = accuracy(of_300_photos(0.86), settings, min_accuracy_low=0.8)
    assert (estimate.passed, lower.passed) == (True, False)
    assert lower.advice.startswith("75 test photos cannot show 80%: some 96 more of them")
    # some: 96 more are rounded, and 0.86 of them is no whole number
    assert accuracy(of_300_photos(0.86, 75 + 105), settings, min_accuracy_low=0.8)[1].passed


def test_an_accuracy_below_the_floor_is_refused_however_many_photos(settings: Promotion) -> None:
    estimate, lower = accuracy(of_300_photos(0.79, 10_000), settings)
    assert (estimate.passed, lower.passed, estimate.note) == (False, True, "")


def test_four_right_answers_of_five_show_too_little(settings: Promotion) -> None:
    assert not accuracy(of_300_photos(0.8, 5), settings)[1].passed


def test_an_interval_without_width_is_not_believed(settings: Promotion) -> None:
    """A bootstrap of three right answers out of three says 1.0 to 1.0."""
    tags = {**PASSING, "test/accuracy": "1.0", "test/accuracy_low": "1.0", "test/n": "3"}
    lower = accuracy(tags, settings)[1]
    assert (lower.figure, lower.passed) == ("0.4385", False)


def crossed(right: float, low: float) -> dict[str, str]:
    name = "cross_validation/accuracy"
    return {name: f"{right}", f"{name}_low": f"{low}", "cross_validation/n": "300"}


@pytest.mark.parametrize(("right", "passed"), [(0.86, True), (0.79, False)])
def test_where_the_test_photos_cannot_show_the_limit_cross_validation_decides(
    right: float, passed: bool, settings: Promotion
) -> None:
    """Whatever the test photos say: 0.76 of 75, or 0.84, may both be 0.8."""
    why = (
        "75 test photos cannot show 80% either way, so the cross-validation of the same settings on "
        "300 photos decides"
    )
    for tested in (0.76, 0.84):
        tags = of_300_photos(tested) | crossed(right, right - 0.05)
        estimate, lower = accuracy(tags, settings)
        assert estimate.passed is passed and estimate.value == right
        assert (estimate.note, estimate.advice) == ((why, "") if passed else ("", why))
        assert estimate.figure == f"{right} cross-validated, {tested} on test photos"
        assert lower.passed and "cross-validated" not in lower.figure, "they show 50 %"


def test_a_floor_that_must_be_proved_may_be_proved_by_all_photos(settings: Promotion) -> None:
    tags = of_300_photos(0.86) | crossed(0.87, 0.82)
    lower = accuracy(tags, settings, min_accuracy_low=0.8)[1]
    assert lower.passed and lower.figure == "0.82 cross-validated, 0.7562 on test photos"
    assert not accuracy(tags | crossed(0.87, 0.79), settings, min_accuracy_low=0.8)[1].passed


def test_cross_validation_overrules_no_test_photos_that_show_the_limit(settings: Promotion) -> None:
    good, bad = crossed(0.99, 0.98), crossed(0.5, 0.4)
    assert [gate.passed for gate in accuracy(of_300_photos(0.6) | good, settings)] == [False, True]
    assert [gate.passed for gate in accuracy(of_300_photos(0.92) | bad, settings)] == [True, True]


def test_a_test_accuracy_that_was_not_measured_refuses_whatever_cross_validation_says(
    settings: Promotion,
) -> None:
    tags = of_300_photos(0.86) | crossed(0.99, 0.98)
    for missing in ("test/accuracy", "test/n", "test/accuracy_low"):
        kept = {name: value for name, value in tags.items() if name != missing}
        assert not all(gate.passed for gate in accuracy(kept, settings))


@pytest.mark.parametrize(
    ("ece", "chance", "passed"),
    [("0.09", "0.05", True), ("0.12", "0.13", True), ("0.12", "0.11", False), ("0.12", "", False)],
)
def test_a_calibration_error_is_refused_where_neither_the_limit_nor_chance_allows_it(
    ece: str, chance: str, passed: bool
) -> None:
    tags = {**PASSING, "test/ece": ece, "test/ece_by_chance": chance, "test/n": "75"}
    gate = limits.calibration(tags, 0.1)
    assert gate.passed is passed
    assert bool(gate.advice) is not passed


def test_a_calibration_gate_that_chance_lets_pass_says_so() -> None:
    tags = {**PASSING, "test/ece": "0.12", "test/ece_by_chance": "0.13", "test/n": "75"}
    assert limits.calibration(tags, 0.1).note == "chance alone reaches 0.13 with 75 test photos"


MEASURED = {"metrics": json.dumps({"robust/pgd": 0.25, "stability/flips_shift_2px": 0.02})}


@pytest.mark.parametrize(
    ("turned", "passed"),
    [
        ({"floors": {"robust/pgd": 0.2}}, [True]),
        ({"floors": {"robust/pgd": 0.3}}, [False]),
        ({"ceilings": {"stability/flips_shift_2px": 0.05}}, [True]),
        ({"ceilings": {"stability/flips_shift_2px": 0.01}}, [False]),
        ({"floors": {"test/accuracy": 0.9}}, [True]),
        ({"floors": {"robust/pgd": None}}, []),
        ({"floors": {"robust/square": 0.1}}, [False]),
        ({"ceilings": {"conformal/size": 2.0}}, [False]),
    ],
    ids=str,
)
def test_a_limit_of_ones_own_holds_for_any_figure_and_one_not_measured_fails(
    turned: dict[str, dict[str, float | None]], passed: list[bool], settings: Promotion
) -> None:
    gates = limits.of_ones_own({**PASSING, **MEASURED}, settings.model_copy(update=turned))
    assert [gate.passed for gate in gates] == passed
