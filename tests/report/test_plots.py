"""Pictures open, are the same each time, and take any name."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation import metrics, ranking
from pipeline.report import drawing, plots, ranking_plots, robustness_plots

CLASSES = ["$5 & <b>", "猫", "a name much longer than anyone would want to print"]
LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBS = np.eye(3)[[0, 1, 1, 1, 2, 0]] * 0.7 + 0.1
RANKING = ranking.table(LABELS, PROBS, CLASSES, 0.95)


def candidates() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": CLASSES,
            "val_accuracy": [0.9, 0.9, 0.7],
            "latency/p50_ms": [3.0, 3.1, 40.0],
            "stopped": ["", "place 2", "too slow"],
            "within_budget": [True, True, False],
            "pareto": [True, False, False],
        }
    )


def robustness(clean: str, method: str) -> pd.DataFrame:
    rows = {"method": [clean, method, method], "severity": [0.0, 1.0, 3.0]}
    accuracy = {"accuracy": [0.9, 0.5, 0.1], "low": 0.0, "high": 1.0, "largest_class": 0.6}
    return pd.DataFrame(rows | accuracy)


DRAWINGS = {
    "confusion": lambda: plots.confusion_matrix(metrics.confusion(LABELS, PROBS, CLASSES), CLASSES),
    "reliability": lambda: plots.reliability(metrics.reliability(LABELS, PROBS, 10)),
    "roc": lambda: ranking_plots.roc(ranking.roc(LABELS, PROBS, CLASSES), RANKING),
    "precision-recall": lambda: ranking_plots.precision_recall(
        ranking.precision_recall(LABELS, PROBS, CLASSES), RANKING
    ),
    "risk": lambda: plots.risk_coverage(metrics.risk_coverage(LABELS, PROBS)),
    "history": lambda: plots.history(
        pd.DataFrame(
            {
                "epoch": [0, 1],
                "train_loss": [1.0, 0.5],
                "val_loss": [np.nan, 0.6],
                "val_accuracy": [0.5, 0.8],
            }
        )
    ),
    "leaderboard": lambda: plots.leaderboard(candidates(), metric="val_accuracy", budget_ms=20.0),
    "trials up": lambda: plots.trials(
        pd.DataFrame(
            {"number": [1, 0, 2], "value": [0.5, np.nan, 0.7], "stopped": [False, True, False]}
        ),
        metric="val_f1",
        direction="maximize",
    ),
    "attacks": lambda: robustness_plots.curves(robustness("no attack", "FGSM")),
    "corruptions": lambda: robustness_plots.corruptions(robustness("no corruption", "snow")),
    "trials down": lambda: plots.trials(
        pd.DataFrame({"number": [0, 1], "value": [0.5, 0.7], "stopped": [False, True]}),
        metric="val_loss",
        direction="minimize",
    ),
}


def words(svg: bytes) -> set[str]:
    return {
        "".join(node.itertext()).strip()
        for node in ElementTree.fromstring(svg).iter()
        if node.tag.endswith("text")
    }


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_a_figure_is_valid_svg_that_turns_light_on_dark_pages(draw):
    svg = draw()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"prefers-color-scheme:dark" in svg


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_a_figure_has_the_same_bytes_each_time(draw):
    assert draw() == draw()


def test_names_of_classes_are_printed_as_they_are_but_shortened():
    assert {"$5 & <b>", "猫", "a name much longer th…"} <= words(DRAWINGS["confusion"]())


@settings(max_examples=10)
@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=3, unique=True))
def test_any_text_may_be_the_name_of_a_class(classes):
    confusion = pd.DataFrame({"actual": classes, "predicted": classes})
    assert ElementTree.fromstring(plots.confusion_matrix(confusion, classes)).tag.endswith("svg")


def test_trials_that_were_stopped_are_drawn_apart_and_never_the_best():
    rows = pd.DataFrame({"number": [0, 1], "value": [0.5, 0.7], "stopped": [False, True]})
    up, whole = (
        plots.trials(some, metric="val_f1", direction="maximize")
        for some in (rows, rows.assign(stopped=False))
    )
    assert "stopped early" in words(up) and "stopped early" not in words(whole)
    best = f"stroke: {plots.BLUE}"
    steps = [
        next(
            node.get("d")
            for node in ElementTree.fromstring(svg).iter()
            if best in (node.get("style") or "")
        )
        for svg in (up, whole)
    ]
    # The line of the best has one trial, and two where both ran to their end.
    assert "L" not in steps[0] and "L" in steps[1]


def test_the_confusion_matrix_counts_images():
    assert {"1", "2"} <= words(DRAWINGS["confusion"]())


def test_a_confusion_matrix_of_many_classes_has_no_numbers():
    classes = [f"class {i}" for i in range(drawing.MOST_NUMBERED_CLASSES + 1)]
    confusion = pd.DataFrame({"actual": classes, "predicted": classes})
    assert words(plots.confusion_matrix(confusion, classes)) == {*classes, "true", "predicted"}


def test_the_leaderboard_names_every_candidate_and_the_budget():
    svg = plots.leaderboard(
        candidates().assign(name=["one", "two", "three"]), metric="val_accuracy", budget_ms=20.0
    )
    assert {"one", "two", "three", "budget 20 ms"} <= words(svg)


def test_a_perfect_model_has_a_risk_coverage_curve():
    curve = metrics.risk_coverage(np.array([0, 1]), np.eye(2))
    assert "all images: 0.0 % wrong" in words(plots.risk_coverage(curve))
