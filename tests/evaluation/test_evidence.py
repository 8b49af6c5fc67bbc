"""Every figure comes with what is needed to believe it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import evidence, facts, headline, metrics
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.rules import Sentence

FACTS = facts.Facts(
    min_n=20,
    classes=[],
    weaker=[],
    small_slices=["dark = yes (3)"],
    label_columns=[],
    sets=[],
    set_level=0.9,
    doubted=1,
    doubted_wrong=0.5,
    doubted_test=0,
    leaked=0,
)
BOOTSTRAP = Bootstrap(n_resamples=50, level=0.9)


def judged(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, n)
    logits = np.eye(4)[labels] * 2 + random.normal(size=(n, 4))
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def figures() -> Figures:
    labels, probs = judged()
    return headline.figures(labels, probs, BOOTSTRAP, seed=0)


def test_every_figure_says_how_many_images_stand_behind_it_how_and_what_it_means() -> None:
    for name, figure in figures().items():
        assert figure.n == 40, name
        assert figure.method and figure.meaning, name


def test_the_figures_are_those_of_metrics_and_lie_within_their_intervals() -> None:
    labels, probs = judged()
    summary = metrics.summary(labels, probs)
    assert {name: figures()[name].value for name in summary} == summary
    for name in summary:
        figure = figures()[name]
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert ("50 resamples" in figure.method) != (name in headline.COUNTED)


def test_the_summary_fits_a_line_of_a_terminal() -> None:
    summary = evidence.summarised(figures())
    assert {*summary} == {"accuracy", "low", "high", "f1_macro", "ece"}
    assert summary["low"] <= summary["accuracy"] <= summary["high"]


def test_dvc_and_mlflow_get_the_few_figures_that_a_person_compares() -> None:
    """The rest stands in evidence.json: forty columns side by side compare nothing."""
    more = {name: figures()["accuracy"] for name in evidence.COMPARED}
    flat = evidence.flat(figures() | more | {"stability/flips_jpeg_75": figures()["accuracy"]})
    assert flat["test/accuracy_low"] <= flat["test/accuracy"] <= flat["test/accuracy_high"]
    assert {"test/f1_macro", "test/ece", "stability/flips_shift_2px"} <= set(flat)
    assert "stability/flips_jpeg_75" not in flat
    assert len(flat) <= 15


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    whole = evidence.Evidence(
        project="fieldmark",
        model="m",
        dataset="d",
        classes=["ä", "б"],
        n_test=40,
        level=0.9,
        figures=figures(),
        caveats=["one"],
        facts=FACTS,
        verdict=[Sentence(kind="beware", words="two")],
        seed=1,
        git_commit="c",
        data_hash="h",
        versions={"numpy": "2"},
        config_yaml="a: 1",
    )
    evidence.write(whole, tmp_path)
    assert evidence.read(tmp_path) == whole


def test_a_figure_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    broken = {"accuracy": Figure(value=float("nan"), n=1, method="m", meaning="x")}
    whole = evidence.Evidence.model_construct(figures=broken)
    with pytest.raises(ValueError, match="accuracy is nan"):
        evidence.write(whole, tmp_path)
    assert not (tmp_path / evidence.FILE).exists()


def test_a_perfect_model_on_few_images_has_an_interval_that_is_no_point() -> None:
    """By bootstrap it was 1 to 1, and passed any gate on the lower end."""
    labels = np.array([0, 1] * 10)
    perfect = headline.figures(labels, np.eye(2)[labels], BOOTSTRAP, seed=0)
    assert perfect["accuracy"].value == 1 and 0.8 < (perfect["accuracy"].low or 0) < 0.95


def test_what_guessing_would_reach_stands_beside_the_accuracy() -> None:
    labels, _ = judged()
    assert figures()["largest_class"].value == np.bincount(labels).max() / 40
