"""evaluate: data/preprocess/test + data/tune (+ what earlier stages found, for the report) ->
data/evaluate.

report.html      one page that opens by itself
predictions.csv  a row a test image: id, name, label, predicted, correct, suspect, and a probability
                 a class
per_class.csv, slices.csv
plots/           confusion.csv (actual, predicted), reliability.csv (confidence, accuracy),
                 worst.png
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.config import Config
from pipeline.evaluation import metrics, slices
from pipeline.pixels import sheets
from pipeline.report import findings
from pipeline.report import page as report
from pipeline.runs import lineage, provenance
from pipeline.storage import store, table
from pipeline.training import network, samples

WITH_INTERVALS = ("accuracy", "f1_macro", "ece")


def run(
    cfg: Config,
    *,
    preprocess_test: Path,
    tune: Path,
    ingest_quarantine: Path,
    label_check: Path,
    model_search: Path,
    out: Path,
) -> dict[str, float]:
    """Predict the test images once, and say how good that is, how sure, and where it fails."""
    trained, winner, classes, _ = network.load(tune)
    rows = table.read(preprocess_test)
    seen = samples.load(preprocess_test, classes)
    probs = torch.softmax(torch.from_numpy(network.logits(trained, seen)).double(), dim=1).numpy()
    labels, correct = seen.labels, probs.argmax(1) == seen.labels
    found = metrics.summary(labels, probs)
    bounds = metrics.intervals(
        labels, probs, metrics=WITH_INTERVALS, **cfg.evaluate.bootstrap.model_dump(), seed=cfg.seed
    )
    parts: dict[str, Any] = {
        "per_class": metrics.per_class(labels, probs, classes),
        "confusion": metrics.confusion(labels, probs, classes),
        "reliability": metrics.reliability(labels, probs, n_bins=15),
        "risk_coverage": metrics.risk_coverage(labels, probs),
        "slices": slices.slices(slices.columns(rows), correct, min_n=cfg.evaluate.min_slice),
    }
    images = store.read_array(preprocess_test / "images.npy")
    wrong = [
        _mistake(i, rows, probs, classes, images)
        for i in _surest(~correct, probs)[: cfg.evaluate.worst]
    ]
    _write(out, rows, probs, classes, parts, wrong)
    page = report.Report(
        dataset=f"{len(rows)} test images of {len(classes)} classes",
        model=winner.title,
        n_test=len(rows),
        metrics=found,
        intervals=bounds,
        level=cfg.evaluate.bootstrap.level,
        classes=classes,
        provenance=_provenance(cfg, tune),
        mistakes=wrong,
        caveats=findings.caveats(rows, winner, model_search),
        **parts,
        label_check=findings.label_check(label_check),
        quarantine=pd.read_csv(ingest_quarantine, dtype=str, keep_default_na=False),
        **findings.search(model_search, tune),
    )
    (out / "report.html").write_text(report.render(page), encoding="utf-8")
    sides = {
        f"test/{name}_{side}": value
        for name, pair in bounds.items()
        for side, value in zip(("low", "high"), pair, strict=True)
    }
    trusted = ~rows["suspect"].to_numpy(bool)
    beside = (
        {"test/accuracy_without_suspects": float(correct[trusted].mean())} if trusted.any() else {}
    )
    return {
        **{f"test/{key}": value for key, value in found.items()},
        **sides,
        **beside,
        "test/n": float(len(rows)),
    }


def _write(
    out: Path,
    rows: pd.DataFrame,
    probs: np.ndarray,
    classes: list[str],
    parts: dict[str, pd.DataFrame],
    wrong: list[report.Mistake],
) -> None:
    (out / "plots").mkdir()
    predicted = np.array(classes, dtype=object)[probs.argmax(1)]
    said = rows[["id", "name", "label"]].assign(
        predicted=predicted, correct=predicted == rows["label"], suspect=rows["suspect"]
    )
    said.assign(**{f"p_{name}": probs[:, i] for i, name in enumerate(classes)}).to_csv(
        out / "predictions.csv", index=False
    )
    parts["per_class"].to_csv(out / "per_class.csv", index=False)
    parts["slices"].to_csv(out / "slices.csv", index=False)
    parts["confusion"].to_csv(out / "plots" / "confusion.csv", index=False)
    parts["reliability"].dropna().to_csv(out / "plots" / "reliability.csv", index=False)
    captions = [f"{m.label}, not {m.predicted} ({m.confidence:.2f})" for m in wrong]
    if wrong:
        (out / "plots" / "worst.png").write_bytes(
            sheets.sheet([m.image for m in wrong], captions, columns=6, cell_px=160)
        )


def _surest(wrong: np.ndarray, probs: np.ndarray) -> list[int]:
    """The rows of wrong predictions, the most confident first."""
    return sorted(np.flatnonzero(wrong).tolist(), key=lambda i: -probs[i].max())


def _mistake(
    i: int, rows: pd.DataFrame, probs: np.ndarray, classes: list[str], images: np.ndarray
) -> report.Mistake:
    return report.Mistake(
        name=rows["name"].iloc[i],
        label=rows["label"].iloc[i],
        predicted=classes[probs[i].argmax()],
        confidence=float(probs[i].max()),
        image=np.asarray(images[i]),
    )


def _provenance(cfg: Config, tune: Path) -> report.Provenance:
    code = provenance.code_tags()
    return report.Provenance(
        seed=cfg.seed,
        git_commit=code["git.commit"]
        + (" (with uncommitted changes)" if code["git.dirty"] == "true" else ""),
        data_hash=lineage.outputs().get("data/ingest", "unknown"),
        config_yaml=(tune / "best.yaml").read_text(),
        versions=json.loads(code["libraries"]),
    )
