"""How often the gates of conf/promotion/ refuse a sound model, and pass an unsound one.

A quarter of 80, 300 and 1,000 photos is tested on. A model is drawn as confidences and right
answers; its figures go through evaluate's own code, export's tags and `gates.judge`.

pytest -s -n0 -m benchmark tests/benchmarks/test_gates.py
"""

import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from registered import PASSING
from rich.console import Console
from rich.table import Table

from pipeline import config
from pipeline.evaluation import calibration, evidence, headline
from pipeline.evaluation.proportions import wilson
from pipeline.exported.tags import FIGURES
from pipeline.promotion import gates, limits

DRAWS = 400
# photos -> the accuracies of a model that is right often enough, and of one that is not
PROMISED = {80: (0.9, 0.6), 300: (0.87, 0.71), 1000: (0.84, 0.75)}
# photos -> accuracy and mean confidence of a model that is too sure of itself
TOO_SURE = {80: (0.7, 0.99), 300: (0.8, 0.99), 1000: (0.84, 0.98)}


def drawn(
    n: int, accuracy: float, confidence: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, 2) of a model with this mean confidence and accuracy.

    Where both are equal it is calibrated: each answer is right with its own confidence.
    """
    spread = 8.0
    sure = 0.5 + 0.5 * random.beta(spread * (2 * confidence - 1), spread * 2 * (1 - confidence), n)
    chance = np.clip(sure + accuracy - confidence, 0, 1)
    predicted = random.integers(0, 2, n)
    labels = np.where(random.random(n) < chance, predicted, 1 - predicted)
    probs = np.where(np.arange(2) == predicted[:, None], sure[:, None], 1 - sure[:, None])
    return labels, probs


def refused(cfg: config.Config, n: int, accuracy: float, confidence: float) -> float:
    """The fraction of test sets on which at least one gate refuses."""
    random, count = np.random.default_rng(n), 0
    for _ in range(DRAWS):
        labels, probs = drawn(n, accuracy, confidence, random)
        bootstrap = cfg.evaluate.bootstrap
        figures = {
            **headline.figures(labels, probs, bootstrap, 0),
            **calibration.figures(labels, probs, bootstrap, 0),
        }
        tested = {**evidence.flat(figures), "test/n": float(n)}
        measured = {name: f"{tested[name]:.4f}" for name in FIGURES if name in tested}
        tags = {**PASSING, **measured, "test/n": str(n)}
        version = ModelVersion(
            "m", "1", 0, tags=[ModelVersionTag(key, value) for key, value in tags.items()]
        )
        count += any(not gate.passed for gate in gates.judge(cfg, version, None, None))
    return count / DRAWS


@pytest.mark.benchmark
def test_a_sound_model_is_seldom_refused_and_an_unsound_one_seldom_passes() -> None:
    cfg = config.load("evaluate", "promotion")
    cells = []
    for photos, (sound, unsound) in PROMISED.items():
        models = {
            "sound": (sound, sound),
            "wrong too often": (unsound, unsound),
            "too sure": TOO_SURE[photos],
        }
        cells += [
            (photos, kind, *model, refused(cfg, photos // 4, *model))
            for kind, model in models.items()
        ]
    table = Table("photos", "model", "accuracy", "mean confidence", "refused")
    for photos, kind, accuracy, confidence, share in cells:
        table.add_row(str(photos), kind, f"{accuracy:g}", f"{confidence:g}", f"{share:.1%}")
    Console().print(table)
    assert all(share < 0.1 if kind == "sound" else share > 0.9 for _, kind, *_, share in cells)


@pytest.mark.benchmark
def test_cross_validation_decides_where_few_test_photos_cannot() -> None:
    """A photo is answered rightly with the same chance, and equally, whichever model is asked."""
    promotion, random = config.load("promotion").promotion, np.random.default_rng(0)
    table = Table("photos", "accuracy", "refused by test photos", "with cross-validation")
    for n, (sound, unsound) in [(80, PROMISED[80]), (300, PROMISED[300]), (700, (0.85, 0.74))]:
        shares = {}
        for accuracy in (sound, unsound):
            count = np.zeros(2)
            for _ in range(10 * DRAWS):
                right = random.random(n) < accuracy
                tested = bounds("test", right[: n // 4])
                for i, tags in enumerate((tested, tested | bounds("cross_validation", right))):
                    count[i] += any(not gate.passed for gate in limits.accuracy(tags, promotion))
            shares[accuracy] = count / (10 * DRAWS)
            table.add_row(str(n), str(accuracy), *(f"{share:.1%}" for share in shares[accuracy]))
        assert shares[sound][1] <= shares[sound][0] and shares[unsound][1] >= shares[unsound][0]
    Console().print(table)


def bounds(prefix: str, right: np.ndarray) -> dict[str, str]:
    """The tags of an accuracy with Wilson's interval."""
    n, n_right = len(right), int(right.sum())
    figures = {"accuracy": n_right / n, "accuracy_low": wilson(n_right, n)[0], "n": n}
    return {f"{prefix}/{name}": f"{value:.4f}" for name, value in figures.items()}
