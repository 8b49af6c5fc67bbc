import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.abstention import abstention

answers = st.lists(st.tuples(st.floats(0.01, 1.0), st.booleans()), min_size=1, max_size=80)


def chosen(pairs: list[tuple[float, bool]], target_risk: float = 0.1, delta: float = 0.05):  # type: ignore[no-untyped-def]
    confidence, correct = map(np.array, zip(*pairs, strict=True))
    return (
        abstention(confidence, correct, target_risk=target_risk, delta=delta),
        confidence,
        correct,
    )


@given(answers)
def test_coverage_and_risk_are_those_of_the_answers_that_are_kept(
    pairs: list[tuple[float, bool]],
) -> None:
    rule, confidence, correct = chosen(pairs)
    answered = confidence >= rule.confidence
    assert rule.val_n == len(pairs)
    if rule.val_coverage:
        assert answered.mean() == pytest.approx(rule.val_coverage)
        assert (~correct[answered]).mean() == pytest.approx(rule.val_risk)
        assert rule.val_risk <= 0.1 + 1e-9


def test_a_perfect_model_on_many_images_never_abstains() -> None:
    rule, *_ = chosen([(0.5 + i / 1000, True) for i in range(300)])
    assert (rule.val_coverage, rule.confidence, rule.guaranteed) == (1.0, 0.5, True)


def test_few_images_cannot_vouch_for_anything() -> None:
    rule, *_ = chosen([(0.9, True), (0.8, True), (0.3, False)])
    assert not rule.guaranteed
    assert (rule.confidence, rule.val_risk) == (0.8, 0.0)


def test_where_nothing_can_be_vouched_for_the_risk_on_these_images_decides() -> None:
    rule, *_ = chosen([(1 - i / 100, i not in (9, 20, 21)) for i in range(22)])
    assert (rule.guaranteed, rule.val_coverage, rule.val_risk) == (False, 21 / 22, 2 / 21)


def test_a_model_that_is_always_wrong_always_abstains() -> None:
    rule, *_ = chosen([(0.9, False)] * 50)
    assert (rule.confidence, rule.val_coverage) == (1.0, 0.0)


def test_the_promise_holds_on_new_images_nearly_always() -> None:
    """Correct with a chance equal to the confidence: the risk above any threshold is known."""
    random, broken, runs = np.random.default_rng(0), 0, 100
    for _ in range(runs):
        confidence = random.uniform(0.5, 1, 4000)
        rule = abstention(confidence, random.random(4000) < confidence, target_risk=0.1, delta=0.1)
        assert rule.guaranteed
        broken += (1 - rule.confidence) / 2 > 0.1
    assert broken / runs <= 0.1
