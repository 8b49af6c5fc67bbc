"""Corruptions and certificates on a small network, and all tables in one call."""

import numpy as np
import pandas as pd
import pytest
import torch
from gratings import gratings, trained
from scipy.stats import norm
from test_adversarial import SETTINGS
from torch import Tensor, nn

from pipeline.config.schema import Corruptions, Robustness, Smoothing
from pipeline.robustness import certificate, measure, natural, smoothing
from pipeline.robustness.corruptions import answers
from pipeline.robustness.corruptions.kinds import KINDS

IMAGES, LABELS = gratings(24, 3, seed=2)
CORRUPTIONS = Corruptions(images=24, severities=[1, 5], all_views=False, floor=0.7)
NOISE = Smoothing(
    images=12, sigma=16.0, n_choose=20, n_certify=100, alpha=0.001, radii=[4.0, 8.0, 64.0]
)


def test_the_worst_corruption_comes_first_and_breaks_at_its_severity():
    findings = natural.measure(trained(), IMAGES, LABELS, CORRUPTIONS, seed=0)
    table, breaking = findings.table(), findings.breaking
    assert len(table) == 1 + 2 * len(KINDS) and len(breaking) == len(KINDS)
    worst = breaking.iloc[0]
    rows = table[table["method"] == worst["corruption"]].set_index("severity")["accuracy"]
    assert rows.mean() == pytest.approx(worst["accuracy"])
    assert worst["breaks_at"] == str(int(rows[rows < 0.7].index[0]))
    assert findings.figures["robustness/worst_corruption"].value == pytest.approx(rows.mean())
    mean = findings.figures["robustness/corruption_accuracy"]
    assert mean.low <= mean.value <= mean.high and mean.n == 24


def test_a_kind_breaks_a_model_that_is_below_the_floor_anyway_at_0():
    right = {kind: np.ones((2, 10), bool) for kind in KINDS}
    right[answers.CLEAN] = np.zeros((1, 10), bool)
    assert set(natural.breaking_points(right, [1, 5], 0.7)["breaks_at"]) == {"0"}
    right[answers.CLEAN] = np.ones((1, 10), bool)
    assert set(natural.breaking_points(right, [1, 5], 0.7)["breaks_at"]) == {"none"}


def test_corruptions_that_are_known_are_not_predicted_again(monkeypatch):
    """After a kill only the kinds that are missing are computed."""
    kinds = dict(list(KINDS.items())[:3])
    monkeypatch.setattr(answers, "KINDS", kinds)
    done = answers.predicted(trained(), IMAGES, [1], seed=0)
    monkeypatch.setattr(answers, "KINDS", dict(list(KINDS.items())[:4]))
    asked = []
    batches = answers.corrupted
    monkeypatch.setattr(
        answers, "corrupted", lambda image, kind, *a: asked.append(kind) or batches(image, kind, *a)
    )
    more = answers.predicted(trained(), IMAGES, [1], seed=0)
    assert set(asked) == {"defocus_blur"}
    assert all(np.array_equal(done[kind], more[kind]) for kind in done)


class Half(nn.Module):
    """It answers 1 where the mean of the pixels is above 128, so its radius is known."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([128 - mean, mean - 128], dim=1)


def test_a_certificate_never_exceeds_the_distance_to_the_border():
    """The border is a plane: the true radius is 10 grey levels times the root of all numbers."""
    image = np.full((4, 4, 3), 138, np.uint8)
    true = 10 * np.sqrt(image.size)
    stored = certificate.certified(Half(), image, NOISE.model_copy(update={"sigma": 64.0}), 0)
    assert stored["chosen"] == 1
    assert 0.3 * true < stored["radius"] <= true
    near = certificate.certified(Half(), np.full((4, 4, 3), 128, np.uint8), NOISE, 0)
    assert near["radius"] == 0  # it abstains


def test_the_bound_of_a_share_holds_as_often_as_it_says():
    """1,000 certificates of a true share: at most some 5 % of the lower bounds exceed it."""
    hits = np.random.default_rng(0).binomial(100, 0.7, 1000)
    wrong = sum(certificate.lower_bound(int(hit), 100, 0.05) > 0.7 for hit in hits)
    assert wrong <= 65


def test_no_radius_beyond_what_the_number_of_copies_allows_is_certified():
    limit = certificate.ceiling(NOISE)
    assert limit == pytest.approx(16 * norm.ppf(0.001 ** (1 / 100)))
    findings = smoothing.measure(trained(noise=20.0), IMAGES[:12], LABELS[:12], NOISE, seed=0)
    table = findings.table().set_index("severity")["accuracy"]
    assert table.is_monotonic_decreasing
    assert table[4.0] > 0.5 and table[64.0] == 0
    assert "robustness/certified_l2_8" in findings.figures
    assert f"no radius above {limit:.1f}" in findings.figures["robustness/certified_l2_8"].method


def test_one_call_writes_all_tables_with_the_names_of_the_classes(tmp_path):
    attacks = SETTINGS.model_copy(
        update={"images": 12, "radii": [8.0], "auto_steps": 0, "square_images": 0}
    )
    one_severity = CORRUPTIONS.model_copy(update={"images": 9, "severities": [3]})
    settings = Robustness(
        attacks=attacks, corruptions=one_severity, smoothing=NOISE.model_copy(update={"images": 2})
    )
    names = ["up", "slanted", "flat"]
    findings = measure.robustness(trained(), IMAGES, LABELS, names, settings, 0, tmp_path)
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert set(table["threat"]) == {"attack", "corruption", "certificate", "patch"}
    assert table[["n", "accuracy", "low", "high", "balanced_accuracy"]].notna().all(axis=None)
    assert set(pd.read_csv(tmp_path / "robustness_classes.csv")["class"]) == set(names)
    assert len(pd.read_csv(tmp_path / "breaking_points.csv")) == len(KINDS)
    assert set(findings.values()) == {
        "robustness/adversarial_linf8",
        "robustness/corruption_accuracy",
        "robustness/worst_corruption",
        "robustness/certified_l2_8",
        "robustness/patch",
    }


def test_what_was_not_measured_is_said(tmp_path):
    findings = measure.robustness(trained(), IMAGES, LABELS, ["a", "b", "c"], None, 0, tmp_path)
    assert findings.warnings == [] and findings.values() == {}
    assert pd.read_csv(tmp_path / "robustness.csv").empty
