"""The evidence from the test images, in one file: evidence.json.

It holds every figure with its interval, the number of images behind it, its method and its meaning.
The report renders it; whoever judges the model reads it.
"""

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.evaluation import verdict
from pipeline.evaluation.crossval import PREFIX
from pipeline.evaluation.facts import Facts
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.rules import Sentence

FILE = "evidence.json"
# What also changes where nothing that was measured does. It stands in a file of its own, so that export,
# which depends on evidence.json, does not run again after an edit of the report.
ORIGIN_FILE = "origin.json"
ORIGIN = {"git_commit", "data_hash", "versions", "config_yaml"}
SUMMARY = "summary.json"  # what `dvc metrics show` and `dvc exp show` have columns for
SUMMARISED = ("accuracy", "f1_macro", "ece")
# What a person compares between two versions; everything else stands in evidence.json beside it.
COMPARED = [
    *("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss", "ece"),
    *("ece_by_chance", "largest_class", "worst_recall", "set_coverage", "set_size"),
    *("stability/flips_shift_2px", "context/border_alone"),
]


class Evidence(BaseModel):
    """The figures of one model on one test set, and what it takes to train that model again."""

    model_config = ConfigDict(frozen=True)

    project: str
    model: str
    defense: str = "none"
    dataset: str
    classes: list[str]
    n_test: int
    level: float
    figures: Figures
    robustness: Figures = {}
    caveats: list[str]
    facts: Facts
    verdict: list[Sentence]
    seed: int
    git_commit: str = ""
    data_hash: str = ""
    versions: dict[str, str] = {}
    config_yaml: str = ""


def of_test_images(classes: list[str], n: int, level: float) -> dict[str, Any]:
    """The fields of Evidence that say what it was measured on, and the level of its intervals."""
    dataset = f"{n} test images of {len(classes)} classes"
    return {"dataset": dataset, "classes": classes, "n_test": n, "level": level}


def concluded(
    figures: Figures, robustness: Figures, facts: Facts, remarks: list[str], about: dict[str, Any]
) -> Evidence:
    """The evidence with its verdict; the sentences that gave way come before the remarks.

    about: the other fields of Evidence.
    """
    sentences, aside = verdict.sentences({**figures, **robustness}, facts)
    return Evidence(
        figures=figures,
        robustness=robustness,
        facts=facts,
        verdict=sentences,
        caveats=[*(each.words for each in aside), *remarks],
        **about,
    )


def flat(figures: Figures) -> dict[str, float]:
    """The numbers as DVC and MLflow compare them: test/NAME, the ends of the accuracy's interval, and
    the accuracy by cross-validation where that was done.

    A figure whose name has a part before a slash, such as stability/flips, keeps that name.
    """
    accuracy = figures["accuracy"]
    ends = {"test/accuracy_low": accuracy.low, "test/accuracy_high": accuracy.high}
    values = {
        name if "/" in name else f"test/{name}": figures[name].value
        for name in COMPARED
        if name in figures
    }
    if crossed := figures.get(f"{PREFIX}/accuracy"):
        ends |= {f"{PREFIX}/accuracy": crossed.value, f"{PREFIX}/n": float(crossed.n)}
        ends |= {f"{PREFIX}/accuracy_low": crossed.low, f"{PREFIX}/accuracy_high": crossed.high}
    return values | {name: value for name, value in ends.items() if value is not None}


def write(evidence: Evidence, folder: Path) -> None:
    """evidence.json and origin.json in the folder. Raises ValueError for a figure that is no
    number.
    """
    for name, figure in (evidence.figures | evidence.robustness).items():
        if not math.isfinite(figure.value):
            raise ValueError(f"{name} is {figure.value}")
    measured = evidence.model_dump_json(indent=1, exclude=ORIGIN)
    origin = evidence.model_dump_json(indent=1, include=ORIGIN)
    for name, text in ((FILE, measured), (ORIGIN_FILE, origin)):
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    summary = json.dumps(summarised(evidence.figures), indent=1)
    (folder / SUMMARY).write_text(f"{summary}\n", encoding="utf-8")


def summarised(figures: Figures) -> dict[str, float]:
    """The few numbers that fit a line of a terminal: SUMMARISED, and the accuracy's interval."""
    accuracy = figures["accuracy"]
    ends = {"low": accuracy.low, "high": accuracy.high}
    values = {name: figures[name].value for name in SUMMARISED}
    return {**values, **{name: value for name, value in ends.items() if value is not None}}


def read(folder: Path) -> Evidence:
    """The evidence that `write` left in the folder."""
    parts = (json.loads((folder / name).read_bytes()) for name in (FILE, ORIGIN_FILE))
    return Evidence.model_validate({key: value for part in parts for key, value in part.items()})
