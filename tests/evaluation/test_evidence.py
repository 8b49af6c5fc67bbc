"""Every figure comes with what is needed to believe it."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import evidence, metrics

BOOTSTRAP = Bootstrap(n_resamples=50, level=0.9)


def judged(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, n)
    logits = np.eye(4)[labels] * 2 + random.normal(size=(n, 4))
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def figures(trusted: np.ndarray | None = None) -> dict[str, evidence.Figure]:
    labels, probs = judged()
    trusted = np.ones(len(labels), bool) if trusted is None else trusted
    return evidence.figures(labels, probs, trusted, BOOTSTRAP, seed=0)


def test_every_figure_says_how_many_images_stand_behind_it_how_and_what_it_means() -> None:
    for name, figure in figures().items():
        assert figure.n == 40, name
        assert figure.method and figure.meaning, name


def test_the_figures_are_those_of_metrics_and_lie_within_their_intervals() -> None:
    labels, probs = judged()
    summary = metrics.summary(labels, probs)
    assert {name: figures()[name].value for name in summary} == summary
    for name in evidence.WITH_INTERVALS:
        figure = figures()[name]
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
        assert "50 resamples" in figure.method


def test_accuracy_without_suspects_counts_only_labels_that_are_not_doubted() -> None:
    labels, probs = judged()
    trusted = np.arange(40) < 10
    figure = figures(trusted)["accuracy_without_suspects"]
    assert figure.n == 10
    assert figure.value == (probs.argmax(1) == labels)[:10].mean()
    assert "accuracy_without_suspects" not in figures(np.zeros(40, bool))


def test_dvc_and_mlflow_get_each_figure_and_both_ends_of_its_interval() -> None:
    flat = evidence.flat(figures())
    assert flat["test/accuracy_low"] <= flat["test/accuracy"] <= flat["test/accuracy_high"]
    assert set(flat) >= {"test/f1_macro_low", "test/ece_high", "test/log_loss"}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    whole = evidence.Evidence(
        model="m",
        dataset="d",
        classes=["ä", "б"],
        n_test=40,
        level=0.9,
        figures=figures(),
        caveats=["one"],
        seed=1,
        git_commit="c",
        data_hash="h",
        versions={"numpy": "2"},
        config_yaml="a: 1",
    )
    evidence.write(whole, tmp_path)
    assert evidence.read(tmp_path) == whole


def test_a_figure_that_is_no_number_is_never_written(tmp_path: Path) -> None:
    broken = {"accuracy": evidence.Figure(value=float("nan"), n=1, method="m", meaning="x")}
    whole = evidence.Evidence.model_construct(figures=broken)
    with pytest.raises(ValueError, match="accuracy is nan"):
        evidence.write(whole, tmp_path)
    assert not (tmp_path / evidence.FILE).exists()
