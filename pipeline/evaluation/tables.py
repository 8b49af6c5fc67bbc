"""The tables behind the figures, and pictures of the worst mistakes, as files.

predictions.csv  one row per test image: id, name, label, predicted, correct, suspect, and one
                 probability per class
per_class.csv, ranking.csv, slices.csv, risk_coverage.csv, sets.csv, calibration.csv,
stability.csv, context.csv, places.csv
plots/           confusion.csv (actual, predicted), reliability.csv (low, high, n, confidence,
                 accuracy), roc.csv, precision_recall.csv (see evaluation/ranking), worst.png
worst.csv        the wrong answers with the highest confidence: name, label, predicted,
                 confidence
worst.npy        their pictures, uint8 (m, size_px, size_px, 3)
"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.config.schema import Evaluate
from pipeline.evaluation import metrics, ranking
from pipeline.evaluation.measuring import Answers, Tables
from pipeline.pixels import sheets
from pipeline.storage import csvs, store

RELIABILITY_BINS = 15


def write(
    preprocess_test: Path, answers: Answers, measured: Tables, settings: Evaluate, out: Path
) -> None:
    """measured: the tables of evaluation/measuring."""
    (out / "plots").mkdir()
    rows, labels, probs, classes = answers[:4]
    predicted = np.array(classes, dtype=object)[probs.argmax(1)]
    csvs.write(_predictions(rows, predicted, probs, classes), out / "predictions.csv")
    for name, table in {
        **measured,
        "risk_coverage": metrics.risk_coverage(labels, probs),
        "plots/confusion": metrics.confusion(labels, probs, classes),
        "plots/reliability": metrics.reliability(labels, probs, n_bins=RELIABILITY_BINS).dropna(),
        "plots/roc": ranking.roc(labels, probs, classes),
        "plots/precision_recall": ranking.precision_recall(labels, probs, classes),
    }.items():
        csvs.write(table, out / f"{name}.csv")
    worst = surest_mistakes(labels, probs, settings.worst)
    _write_worst(preprocess_test, rows.iloc[worst], predicted[worst], probs[worst].max(1), out)


def surest_mistakes(
    labels: metrics.Labels, probs: metrics.Probs, most: int
) -> Int64[np.ndarray, " m"]:
    """Positions of the wrong answers with the highest confidence, the highest first."""
    wrong = np.flatnonzero(probs.argmax(axis=1) != labels).tolist()
    return np.array(sorted(wrong, key=lambda i: -probs[i].max())[:most], dtype=np.int64)


def _predictions(
    rows: pd.DataFrame, predicted: np.ndarray, probs: metrics.Probs, classes: list[str]
) -> pd.DataFrame:
    answers = rows[["id", "name", "label"]].assign(
        predicted=predicted, correct=predicted == rows["label"], suspect=rows["suspect"]
    )
    return answers.assign(**{f"p_{name}": probs[:, i] for i, name in enumerate(classes)})


def _write_worst(
    preprocess_test: Path,
    rows: pd.DataFrame,
    predicted: np.ndarray,
    confidence: np.ndarray,
    out: Path,
) -> None:
    images = store.read_array(preprocess_test / "images.npy")
    pictures = np.array([images[i] for i in rows.index], np.uint8).reshape(-1, *images.shape[1:])
    mistakes = rows[["name", "label"]].assign(predicted=predicted, confidence=confidence)
    csvs.write(mistakes, out / "worst.csv")
    np.save(out / "worst.npy", pictures)
    captions = [
        f"{row.label}, not {row.predicted} ({row.confidence:.2f})"
        for row in mistakes.itertuples(index=False)
    ]
    if not captions:  # `dvc plots show` wants the file none the less
        pictures, captions = np.full((1, 1, 1, 3), 255, np.uint8), ["no mistakes"]
    sheet = sheets.sheet(list(pictures), captions, columns=6, cell_px=160)
    (out / "plots" / "worst.png").write_bytes(sheet)
