"""What the verdict goes by is read from what earlier stages wrote."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import betabinom

from pipeline.evaluation import conformal, facts
from pipeline.storage import table


def label_check(folder: Path, split: dict[str, str], pairs: list[tuple[str, str]]) -> Path:
    n = len(split)
    blank = {name: ["" if kind == "str" else 1] * n for name, kind in table.INGEST_COLUMNS.items()}
    table.write(pd.DataFrame({**blank, "id": [*split], "split": [*split.values()]}), folder)
    pd.DataFrame(pairs, columns=["id", "other_id"]).to_csv(
        folder / "near_duplicates.csv", index=False
    )
    return folder


def test_test_images_with_a_twin_that_was_learned_from_are_counted_once(tmp_path: Path) -> None:
    split = {"007": "test", "7": "train", "8": "val", "9": "test", "10": "test", "11": ""}
    pairs = [("007", "7"), ("8", "007"), ("9", "10"), ("11", "10")]
    assert facts.leaked(label_check(tmp_path, split, pairs)) == 1


def test_a_split_that_keeps_twins_together_leaks_nothing(tmp_path: Path) -> None:
    split = {"a": "test", "b": "test", "c": "train", "d": "train"}
    assert facts.leaked(label_check(tmp_path, split, [("a", "b"), ("c", "d")])) == 0


def test_whether_more_photos_help_is_what_model_search_says_first(tmp_path: Path) -> None:
    assert facts.more_photos(tmp_path) == ""
    file = tmp_path / "sufficiency.json"
    file.write_text(json.dumps({"sentences": []}))
    assert facts.more_photos(tmp_path) == ""
    file.write_text(json.dumps({"sentences": ["More would help.", "Some more."]}))
    assert facts.more_photos(tmp_path) == "More would help."


def test_a_promise_that_holds_is_rarely_called_broken() -> None:
    """By the luck of few validation images a class may get 80 % on many test images: that is no
    broken promise, although its own interval lies below 90 %.
    """
    random, alarms = np.random.default_rng(0), 0
    for _ in range(400):
        least = conformal.least_probability(random.random(40), 0.9)
        hits = int((random.random(300) >= least).sum())
        row = {"class": "owl", "n": 300, "coverage": hits / 300, "n_calibration": 40}
        alarms += facts.of_sets(pd.DataFrame([row]), 0.9)[0].chance < 0.025
    assert alarms / 400 < 0.05


def test_the_chance_of_a_low_coverage_is_that_of_the_beta_binomial_distribution() -> None:
    row = {"class": "owl", "n": 50, "coverage": 0.7, "n_calibration": 39}
    chance = facts.of_sets(pd.DataFrame([row]), 0.9)[0].chance
    assert chance == betabinom.cdf(35, 50, 36, 4)
