"""The audit knows what it planted, and says how much of it was found."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.labels import suspects
from pipeline.labels.audit import audit, of_table, show
from pipeline.labels.errors import Labelling

DIGITS = load_digits()
FEATURES = DIGITS.data[:900].astype(np.float32)
LABELS = DIGITS.target[:900].astype(np.int64)
GROUPS = [str(i) for i in range(900)]
SAID = Labelling(LABELS, GROUPS)
SETTINGS = {"folds": 3, "C": 0.01, "max_fraction": 0.3, "seed": 0}


def test_flips_on_clean_labels_are_found_far_better_than_by_chance() -> None:
    found = audit(FEATURES, SAID, fractions=[0.1], **SETTINGS)
    assert found["kind"].tolist() == ["uniform", "look-alike"]
    assert (found["n_planted"] == 90).all()
    assert np.allclose(found["random_average_precision"], 0.1)
    assert (found["average_precision"] > 0.6).all()


def test_a_flip_of_a_graded_label_exchanges_its_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Labelling] = []
    judge = suspects.named

    def noted(said: Labelling, probs: np.ndarray, **how: Any) -> pd.DataFrame:
        seen.append(said)
        return judge(said, probs, **how)

    monkeypatch.setattr(suspects, "named", noted)
    graded = 0.7 * np.eye(10)[LABELS] + 0.03
    found = audit(FEATURES, replace(SAID, shares=graded), fractions=[0.1], **SETTINGS)
    assert (found["average_precision"] > 0.6).all()
    noisy, shares = seen[0].labels, seen[0].shares
    assert shares is not None
    assert (noisy != LABELS).sum() == 90 and (shares.argmax(axis=1) == noisy).all()
    np.testing.assert_array_equal(np.sort(shares, axis=1), np.sort(graded, axis=1))


def test_features_that_tell_nothing_do_no_better_than_chance() -> None:
    noise = np.random.default_rng(0).normal(size=FEATURES.shape).astype(np.float32)
    found = audit(noise, SAID, fractions=[0.1], **SETTINGS)
    assert (found["average_precision"] < 0.25).all()


def test_with_two_classes_there_is_one_kind_of_flip_and_a_model_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path))
    two = LABELS < 2
    found = audit(
        FEATURES[two],
        Labelling(LABELS[two], GROUPS[: two.sum()]),
        fractions=[0.05, 0.2],
        **SETTINGS,
    )
    assert list(zip(found["kind"], found["fraction"], strict=True)) == [
        ("uniform", 0.05),
        ("uniform", 0.2),
    ]
    assert len([*(tmp_path / "folds").iterdir()]) == 2


def test_the_same_seed_plants_the_same_flips_and_the_labels_stay_as_they_are() -> None:
    before = LABELS.copy()
    first, second = (audit(FEATURES, SAID, fractions=[0.05], **SETTINGS) for _ in range(2))
    assert first.equals(second)
    assert (before == LABELS).all()


@pytest.mark.parametrize("fraction", [0.0001, 0.5])
def test_any_fraction_plants_at_least_one_flip(fraction: float) -> None:
    found = audit(
        FEATURES[:200], Labelling(LABELS[:200], GROUPS[:200]), fractions=[fraction], **SETTINGS
    )
    assert found["n_planted"].tolist() == [max(1, round(200 * fraction))] * 2


def checked(labels: np.ndarray, verified: list[str]) -> tuple[pd.DataFrame, Any]:
    """A table of the digits with some labels, and a column of what was verified."""
    said = [str(label) for label in labels]
    rows = pd.DataFrame(
        {"label": said, "given_label": said, "dup_group": GROUPS, "soft_label": "", "weight": 1.0}
    )
    rows["metadata"] = [json.dumps({"checked": truth} if truth else {}) for truth in verified]
    errors = SimpleNamespace(model_dump=lambda: {"folds": 3, "C": 0.01, "max_fraction": 0.3})
    return rows, Config(seed=0, label_check=SimpleNamespace(errors=errors))


def test_real_errors_are_looked_for_where_a_column_was_verified() -> None:
    noisy = LABELS.copy()
    noisy[::9] = (noisy[::9] + 1) % 10
    truth = [str(label) for label in LABELS]
    rows, cfg = checked(noisy, truth)
    found = of_table(rows, FEATURES, cfg, fractions=[], verified="checked").iloc[0]
    assert (found["kind"], found["n_planted"]) == ("real", 100)
    assert found["random_average_precision"] == pytest.approx(1 / 9)
    assert found["average_precision"] > 0.6 and found["recall"] > 0.6


def test_only_what_was_verified_is_counted() -> None:
    noisy = LABELS.copy()
    noisy[::9] = (noisy[::9] + 1) % 10
    rows, cfg = checked(noisy, [str(label) if i < 450 else "" for i, label in enumerate(LABELS)])
    assert of_table(rows, FEATURES, cfg, fractions=[], verified="checked")[
        "n_planted"
    ].tolist() == [50]


def test_a_verified_column_that_is_missing_or_never_disagrees_is_named() -> None:
    rows, cfg = checked(LABELS, [str(label) for label in LABELS])
    with pytest.raises(FieldmarkError, match="no metadata column 'truth' .*; there are: checked"):
        of_table(rows, FEATURES, cfg, fractions=[], verified="truth")
    with pytest.raises(FieldmarkError, match="'checked' must say"):
        of_table(rows, FEATURES, cfg, fractions=[], verified="checked")


def test_of_many_images_a_sample_is_audited() -> None:
    rows, cfg = checked(LABELS, [""] * 900)
    found = of_table(rows, FEATURES, cfg, fractions=[0.1], verified=None, max_images=300)
    assert found["n_planted"].tolist() == [30, 30]


def test_without_fractions_there_is_a_table_without_rows() -> None:
    rows, cfg = checked(LABELS, [""] * 900)
    found = of_table(rows, FEATURES, cfg, fractions=[], verified=None)
    assert found.empty and "average_precision" in found


def test_the_command_audits_what_label_check_has_seen(built: Path) -> None:
    command = [
        Path(sys.executable).parent / "fieldmark",
        "label-check",
        "--audit",
        "--fraction",
        "0.2",
    ]
    done = subprocess.run(
        command,
        cwd=built,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "look-alike" in done.stdout and "0.200" in done.stdout
    assert "precision" in done.stdout and "…" not in done.stdout
    assert done.stderr == ""


def test_before_label_check_the_command_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FieldmarkError, match="run `dvc repro label-check` first"):
        show(Config(seed=0), [0.1])
