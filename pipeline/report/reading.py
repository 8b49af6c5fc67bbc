"""The contents of the page, read from the folders of the stages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import evidence, occlusion
from pipeline.report.contents import (
    LabelCheck,
    Leaderboard,
    Looked,
    Mistake,
    Outlier,
    Pair,
    Report,
    Sufficiency,
    Suspect,
    Tuning,
)
from pipeline.storage import csvs, store, table

CORNERS = ("top", "left", "bottom", "right")
UNDEFINED = ("precision", "recall", "f1", "coverage", "mean_size", "empty", "least_probability")


def report(
    evaluate: Path, *, ingest_quarantine: Path, label_check: Path, model_search: Path, tune: Path
) -> Report:
    """Everything on the page. evaluate: the folder with evidence.json and its tables."""
    return Report(
        evidence=evidence.read(evaluate),
        per_class=_table(evaluate / "per_class.csv"),
        slices=_table(evaluate / "slices.csv"),
        sets=_table(evaluate / "sets.csv"),
        calibration=_table(evaluate / "calibration.csv"),
        stability=_table(evaluate / "stability.csv"),
        context=_table(evaluate / "context.csv"),
        risk_coverage=_table(evaluate / "risk_coverage.csv"),
        confusion=_table(evaluate / "plots" / "confusion.csv"),
        reliability=_table(evaluate / "plots" / "reliability.csv"),
        places=_table(evaluate / "places.csv"),
        ranking=_table(evaluate / "ranking.csv"),
        roc=_table(evaluate / "plots" / "roc.csv"),
        precision_recall=_table(evaluate / "plots" / "precision_recall.csv"),
        robustness=_table(evaluate / "robustness.csv"),
        robustness_classes=_table(evaluate / "robustness_classes.csv"),
        breaking_points=_table(evaluate / "breaking_points.csv"),
        mistakes=_mistakes(evaluate),
        looked=_looked(evaluate),
        label_check=_label_check(label_check),
        sufficiency=_sufficiency(model_search, label_check),
        quarantine=csvs.read(ingest_quarantine, dtype=str, keep_default_na=False),
        **_search(model_search, tune),
    )


def _label_check(folder: Path) -> LabelCheck:
    """What label-check found, with pictures of the clearest cases."""
    findings = csvs.read(folder / "findings.csv", keep_default_na=False)
    n = dict(zip(findings["finding"], findings["n"], strict=True))
    return LabelCheck(
        findings=findings,
        audit=csvs.read(folder / "audit.csv"),
        n_decided=int(n["decisions applied"]),
        n_changed=int(n["labels changed by decisions"]),
        suspects=[
            Suspect(
                name=row["name"],
                label=row["label"],
                suggested=row["suggested_label"],
                score=float(row["suspect_score"]),
                image=picture,
            )
            for row, picture in _illustrated(folder, "suspects")
        ],
        pairs=[
            Pair(
                why=row["why"],
                names=(row["name"], row["other"]),
                labels=(row["label"], row["other_label"]),
                cosine=float(row["cosine"]),
                image=sides[0],
                other=sides[1],
            )
            for row, sides in _illustrated(folder, "pairs")
        ],
        outliers=[
            Outlier(name=row["name"], label=row["label"], image=picture)
            for row, picture in _illustrated(folder, "outliers")
        ],
    )


def _search(model_search: Path, tune: Path) -> dict[str, Any]:
    """How the model was chosen and tuned.

    The fields latency_ms, leaderboard, tuning and history of the report.
    """
    board = csvs.read(model_search / "leaderboard.csv")
    board = board[board["left_out"].isna()].drop(columns=["candidate", "left_out"])
    board["stopped"] = board["stopped"].fillna("")
    compared = json.loads((model_search / "search.json").read_bytes())
    trials = csvs.read(tune / "trials.csv")
    trials = trials.assign(stopped=trials["state"] != "COMPLETE").drop(columns="state")
    settings = json.loads((tune / "search.json").read_bytes())
    history = csvs.read(tune / "history.csv")
    return {
        "latency_ms": float(board["latency/p50_ms"].to_numpy(dtype=np.float64)[0]),
        "leaderboard": Leaderboard(
            rows=board,
            metric=compared["metric"],
            budget_ms=compared["latency_budget_ms"],
            choice=compared["choice"],
        ),
        "tuning": Tuning(
            rows=trials,
            metric=settings["metric"],
            direction=settings["direction"],
            importance=csvs.read(tune / "importance.csv"),
            remarks=[*settings["cut"], settings["comparison"]["sentence"], *settings["edges"]],
        ),
        "history": history if len(history) > 1 else None,
    }


def _sufficiency(model_search: Path, label_check: Path) -> Sufficiency:
    """The learning curves, beside how many labels are expected to be wrong."""
    content = json.loads((model_search / "sufficiency.json").read_bytes())
    rows = table.read(label_check)
    return Sufficiency(
        measured=_table(model_search / "learning_curve.csv"),
        forecast=_table(model_search / "forecast.csv"),
        metric=content["metric"],
        sentences=content["sentences"],
        expected_wrong=float(rows["chance_wrong"].sum()),
        n_labels=int((rows["label"] != "").sum()),
    )


def _illustrated(folder: Path, kind: str) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """The first rows of a list of label-check, as text, with their pictures."""
    pictures = store.read_array(folder / f"{kind}.npy")
    rows = csvs.read(folder / f"{kind}.csv", dtype=str, keep_default_na=False).head(len(pictures))
    texts = [
        {str(key): str(value) for key, value in row.items()} for row in rows.to_dict("records")
    ]
    yield from zip(texts, pictures, strict=True)


def _table(file: Path) -> pd.DataFrame:
    """A table whose names stay text, even where they look like numbers or missing values."""
    text = dict.fromkeys(
        ("class", "most_confused_with", "slice", "actual", "predicted", "breaks_at", "place"), str
    )
    return csvs.read(
        file,
        dtype=text,
        keep_default_na=False,
        na_values={name: [""] for name in UNDEFINED},
    )


def _mistakes(evaluate: Path) -> list[Mistake]:
    return [
        Mistake(
            name=row["name"],
            label=row["label"],
            predicted=row["predicted"],
            confidence=float(row["confidence"]),
            image=picture,
        )
        for row, picture in _illustrated(evaluate, "worst")
    ]


def _looked(evaluate: Path) -> list[Looked]:
    maps, found = store.read_array(evaluate / "region_maps.npy"), []
    for (row, picture), effect in zip(_illustrated(evaluate, "regions"), maps, strict=True):
        top, left, bottom, right = (int(float(row[name] or 0)) for name in CORNERS)
        found.append(
            Looked(
                name=row["name"],
                label=row["label"],
                predicted=row["predicted"],
                confidence=float(row["confidence"]),
                boxed=bottom > top,
                in_box=bool(float(row["in_box"])) if row["in_box"] else None,
                image=occlusion.overlay(picture, effect, (top, left, bottom, right)),
            )
        )
    return found
