"""Whether tuning helped."""

import numpy as np
import pytest
from scipy import stats

from pipeline.config import load
from pipeline.search.refits import Comparison, comparison


def compare(tuned: list[float], untuned: list[float], **changes: str) -> Comparison:
    """Of 100 images that judge and 400 that were learned from."""
    settings = load("tune").tune.model_copy(update={"metric": "log_loss", **changes})
    return comparison(tuned, untuned, settings, 100, 400)


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    """Their variance is (1/J + n_judged/n_learned) times that of the differences."""
    tuned, untuned = [0.30, 0.31, 0.29, 0.30], [0.35, 0.37, 0.35, 0.34]
    result = compare(tuned, untuned)
    differences = np.subtract(untuned, tuned)
    corrected = np.sqrt((1 / 4 + 100 / 400) * differences.var(ddof=1))
    wanted = stats.t.interval(0.95, 3, loc=differences.mean(), scale=corrected)
    assert (result.low, result.high) == pytest.approx(wanted)
    uncorrected = stats.ttest_rel(untuned, tuned).confidence_interval(0.95)
    assert result.low < uncorrected.low, "it is wider than one that takes fits for independent"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("metric", "better", "worse"), [("log_loss", 0.3, 0.4), ("accuracy", 0.9, 0.8)]
)
def test_a_gain_is_positive_where_tuning_was_better(
    metric: str, better: float, worse: float
) -> None:
    good = [better, better + 0.01, better]
    bad = [worse, worse, worse + 0.01]
    assert compare(good, bad, metric=metric).gain > 0 > compare(bad, good, metric=metric).gain


CLEAR = ([0.30, 0.31, 0.30], [0.50, 0.52, 0.51])
UNCLEAR = ([0.30, 0.40, 0.35], [0.36, 0.33, 0.37])
WORSE = ([0.40, 0.41, 0.42], [0.30, 0.32, 0.31])


@pytest.mark.parametrize(
    ("values", "keep_untuned", "kept"),
    [
        (CLEAR, "unproven", False),
        (UNCLEAR, "worse", False),
        (UNCLEAR, "unproven", True),
        (WORSE, "worse", True),
        (WORSE, "never", False),
    ],
)
def test_the_untuned_settings_are_kept_as_it_was_configured(
    values: tuple[list[float], list[float]], keep_untuned: str, kept: bool
) -> None:
    result = compare(*values, keep_untuned=keep_untuned)
    assert result.keep_untuned is kept
    assert ("The untuned settings are kept." in result.sentence("log_loss")) is kept


def test_the_sentence_says_what_was_shown() -> None:
    assert "Tuning helped: the gain is 0.207 (95% interval" in compare(*CLEAR).sentence("log_loss")
    assert "no proof that tuning helped" in compare(*UNCLEAR).sentence("log_loss")
    alike = compare([0.3, 0.3], [0.4, 0.4]).sentence("log_loss")
    assert "cannot be told from that: the seeds show no spread" in alike
    none = Comparison([], [], 0.0, None, None, keep_untuned=False)
    assert none.sentence("log_loss").startswith("No trial was better than the untuned settings")


def test_untuned_settings_that_diverge_are_never_kept() -> None:
    nan = float("nan")
    result = compare([0.4, 0.4, 0.5], [nan, 0.3, 0.3], keep_untuned="unproven")
    assert not result.keep_untuned
    assert result.plain("log_loss")["untuned"] == [0.3, 0.3]
    assert np.isfinite(compare([0.4], [nan]).gain)
