"""evaluate: data/preprocess/test + data/tune (+ what earlier stages found, for the report) -> data/evaluate.

report.html      one page that opens by itself
predictions.csv  a row a test image: id, name, label, predicted, correct, suspect, and a probability a class
per_class.csv, slices.csv
plots/           confusion.csv (actual, predicted), reliability.csv (confidence, accuracy), worst.png
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline import lineage, sheets, store, table, tracking
from pipeline.config import Config
from pipeline.evaluation import metrics, report
from pipeline.schema import Winner
from pipeline.training import network, samples

WITH_INTERVALS = ("accuracy", "f1_macro", "ece")
MOST_SLICE_VALUES = 12  # a column with more different values is not a slice


def run(
    cfg: Config, *, preprocess_test: Path, tune: Path, ingest_quarantine: Path, label_check: Path, model_search: Path,
    out: Path,
) -> dict[str, float]:  # fmt: skip
    """Predict the test images once, and say how good that is, how sure, and where it fails."""
    trained, winner, classes, _ = network.load(tune)
    rows = table.read(preprocess_test)
    seen = samples.load(preprocess_test, classes)
    probs = torch.softmax(torch.from_numpy(network.logits(trained, seen)).double(), dim=1).numpy()
    labels, correct = seen.labels, probs.argmax(1) == seen.labels
    found = metrics.summary(labels, probs)
    bounds = metrics.intervals(labels, probs, metrics=WITH_INTERVALS, **cfg.evaluate.bootstrap.model_dump(), seed=cfg.seed)
    parts: dict[str, Any] = {
        "per_class": metrics.per_class(labels, probs, classes),
        "confusion": metrics.confusion(labels, probs, classes),
        "reliability": metrics.reliability(labels, probs, n_bins=15),
        "risk_coverage": metrics.risk_coverage(labels, probs),
        "slices": metrics.slices(_slices(rows), correct, min_n=cfg.evaluate.min_slice),
    }
    wrong = _worst(rows, probs, classes, store.read_array(preprocess_test / "images.npy"), correct)[: cfg.evaluate.worst]
    _write(out, rows, probs, classes, parts, wrong)
    page = report.Report(
        dataset=f"{len(rows)} test images of {len(classes)} classes", model=winner.title, n_test=len(rows), metrics=found,
        intervals=bounds, level=cfg.evaluate.bootstrap.level, classes=classes,
        provenance=_provenance(cfg, tune), mistakes=wrong, caveats=_caveats(rows, winner, model_search), **parts,
        label_check=_label_check(label_check), quarantine=pd.read_csv(ingest_quarantine, keep_default_na=False),
        **_search(model_search, tune),
    )  # fmt: skip
    (out / "report.html").write_text(report.render(page), encoding="utf-8")
    sides = {f"test/{name}_{side}": value for name, pair in bounds.items() for side, value in zip(("low", "high"), pair, strict=True)}
    trusted = ~rows["suspect"].to_numpy(bool)
    beside = {"test/accuracy_without_suspects": float(correct[trusted].mean())} if trusted.any() else {}
    return {**{f"test/{key}": value for key, value in found.items()}, **sides, **beside, "test/n": float(len(rows))}


def _write(
    out: Path, rows: pd.DataFrame, probs: np.ndarray, classes: list[str], parts: dict[str, pd.DataFrame],
    wrong: list[report.Mistake],
) -> None:  # fmt: skip
    (out / "plots").mkdir()
    predicted = np.array(classes, dtype=object)[probs.argmax(1)]
    said = rows[["id", "name", "label"]].assign(predicted=predicted, correct=predicted == rows["label"], suspect=rows["suspect"])
    said.assign(**{f"p_{name}": probs[:, i] for i, name in enumerate(classes)}).to_csv(out / "predictions.csv", index=False)
    parts["per_class"].to_csv(out / "per_class.csv", index=False)
    parts["slices"].to_csv(out / "slices.csv", index=False)
    parts["confusion"].to_csv(out / "plots" / "confusion.csv", index=False)
    parts["reliability"].dropna().to_csv(out / "plots" / "reliability.csv", index=False)
    captions = [f"{m.label}, not {m.predicted} ({m.confidence:.2f})" for m in wrong]
    if wrong:
        (out / "plots" / "worst.png").write_bytes(sheets.sheet([m.image for m in wrong], captions, columns=6, cell_px=160))


def _worst(
    rows: pd.DataFrame, probs: np.ndarray, classes: list[str], images: np.ndarray, correct: np.ndarray
) -> list[report.Mistake]:
    order = sorted(np.flatnonzero(~correct), key=lambda i: -probs[i].max())
    return [
        report.Mistake(
            name=rows["name"].iloc[i], label=rows["label"].iloc[i], predicted=classes[probs[i].argmax()],
            confidence=float(probs[i].max()), image=np.asarray(images[i]),
        )
        for i in order
    ]  # fmt: skip


def _slices(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns worth a slice: the source's metadata with few values, the format, and label-check's findings."""
    told = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    told = told.rename(columns={name: f"{name} (metadata)" for name in told if name in rows})
    few = [column for column in told.columns if 1 < told[column].nunique() <= MOST_SLICE_VALUES]
    found = [column for column in rows.columns if rows[column].dtype == bool and rows[column].any()]
    return pd.concat([told[few], rows[[*(["format"] if rows["format"].nunique() > 1 else []), *found]]], axis=1)


def _provenance(cfg: Config, tune: Path) -> report.Provenance:
    code = tracking.code_tags()
    return report.Provenance(
        seed=cfg.seed, git_commit=code["git.commit"] + (" (with uncommitted changes)" if code["git.dirty"] == "true" else ""),
        data_hash=lineage.outputs().get("data/ingest", "unknown"), config_yaml=(tune / "best.yaml").read_text(),
        versions=json.loads(code["libraries"]),
    )  # fmt: skip


def _label_check(folder: Path) -> report.LabelCheck:
    findings = pd.read_csv(folder / "findings.csv", keep_default_na=False)
    n = dict(zip(findings["finding"], findings["n"], strict=True))
    return report.LabelCheck(
        findings=findings, audit=pd.read_csv(folder / "audit.csv"),
        n_decided=int(n["decisions applied"]), n_changed=int(n["labels changed by decisions"]),
        suspects=[
            report.Suspect(name=row["name"], label=row["label"], suggested=row["suggested_label"], score=float(row["suspect_score"]), image=picture)
            for row, picture in _shown(folder, "suspects")
        ],
        pairs=[
            report.Pair(
                why=row["why"], names=(row["name"], row["other"]), labels=(row["label"], row["other_label"]), cosine=float(row["cosine"]),
                image=sides[0], other=sides[1],
            )
            for row, sides in _shown(folder, "pairs")
        ],
        outliers=[report.Outlier(name=row["name"], label=row["label"], image=picture) for row, picture in _shown(folder, "outliers")],
    )  # fmt: skip


def _shown(folder: Path, kind: str) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """The first rows of a list of label-check, as text, with their pictures."""
    pictures = store.read_array(folder / f"{kind}.npy")
    rows = pd.read_csv(folder / f"{kind}.csv", dtype=str, keep_default_na=False).head(len(pictures))
    told = [{str(key): str(value) for key, value in row.items()} for row in rows.to_dict("records")]
    yield from zip(told, pictures, strict=True)


def _search(model_search: Path, tune: Path) -> dict[str, Any]:
    board = pd.read_csv(model_search / "leaderboard.csv").drop(columns="candidate")
    compared = json.loads((model_search / "search.json").read_text())
    trials = pd.read_csv(tune / "trials.csv")
    trials = trials.assign(stopped=trials["state"] != "COMPLETE").drop(columns="state")
    settings = json.loads((tune / "search.json").read_text())
    history = pd.read_csv(tune / "history.csv")
    return {
        "latency_ms": float(board["latency/p50_ms"].to_numpy(dtype=np.float64)[0]),
        "leaderboard": report.Leaderboard(rows=board, metric=compared["metric"], budget_ms=compared["latency_budget_ms"]),
        "tuning": report.Tuning(rows=trials, metric=settings["metric"], direction=settings["direction"]),
        "history": history if len(history) > 1 else None,
    }


def _caveats(rows: pd.DataFrame, winner: Winner, model_search: Path) -> list[str]:
    caveats = ["The test images come from the same source as the training images; other cameras or places may differ."]
    if rows["suspect"].any():
        caveats.append(f"{int(rows['suspect'].sum())} of the test labels are doubted by label-check and were kept as given.")
    if (rows["soft_label"] != "").any():
        caveats.append("Some labels are graded; accuracy counts the likelier class as the truth.")
    if winner.model.features.get("weights") == "random":
        caveats.append("The backbone started from random weights, as configured.")
    return [*caveats, *json.loads((model_search / "search.json").read_text())["better_but_slow"]]
