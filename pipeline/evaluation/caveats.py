"""Caveats for readers of the figures; one function per rule."""

import json
from pathlib import Path

import pandas as pd

from pipeline.config.schema import Candidate
from pipeline.storage import csvs

UNLEARNED = "classes without a training image"  # as label-check names the finding
SAME_SOURCE = (
    "The test images come from the same source as the training images; other cameras or places "
    "may differ."
)


def caveats(
    rows: pd.DataFrame, winner: Candidate, label_check: Path, model_search: Path
) -> list[str]:
    """The caveats, one sentence each.

    rows: the table of the test images; label_check: its folder, for classes without training
    images; model_search: its folder, for models that were left out, or better but too slow.
    """
    compared: dict[str, list[str]] = json.loads((model_search / "search.json").read_bytes())
    sentences = [
        SAME_SOURCE,
        _unlearned(label_check),
        _graded(rows),
        _untrained(winner),
        *compared["better_but_slow"],
        *compared["left_out"],
    ]
    return [sentence for sentence in sentences if sentence]


def _unlearned(label_check: Path) -> str:
    findings = csvs.read(label_check / "findings.csv", keep_default_na=False).set_index("finding")
    n, note = int(findings["n"][UNLEARNED]), str(findings["note"][UNLEARNED])
    return f"The model cannot predict classes without a training image: {note}." if n else ""


def _graded(rows: pd.DataFrame) -> str:
    if (rows["soft_label"] == "").all():
        return ""
    return "Some labels are soft (probabilities); accuracy takes the likeliest class as the truth."


def _untrained(winner: Candidate) -> str:
    if winner.extractor.get("weights") != "random":
        return ""
    return "The backbone started from random weights, as configured."
