"""What the report says of the stages before evaluate: read from their folders, as report.Report
takes it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Candidate
from pipeline.report import page
from pipeline.storage import store


def label_check(folder: Path) -> page.LabelCheck:
    """What label-check found, with pictures of the most telling cases."""
    findings = pd.read_csv(folder / "findings.csv", keep_default_na=False)
    n = dict(zip(findings["finding"], findings["n"], strict=True))
    return page.LabelCheck(
        findings=findings,
        audit=pd.read_csv(folder / "audit.csv"),
        n_decided=int(n["decisions applied"]),
        n_changed=int(n["labels changed by decisions"]),
        suspects=[
            page.Suspect(
                name=row["name"],
                label=row["label"],
                suggested=row["suggested_label"],
                score=float(row["suspect_score"]),
                image=picture,
            )
            for row, picture in _shown(folder, "suspects")
        ],
        pairs=[
            page.Pair(
                why=row["why"],
                names=(row["name"], row["other"]),
                labels=(row["label"], row["other_label"]),
                cosine=float(row["cosine"]),
                image=sides[0],
                other=sides[1],
            )
            for row, sides in _shown(folder, "pairs")
        ],
        outliers=[
            page.Outlier(name=row["name"], label=row["label"], image=picture)
            for row, picture in _shown(folder, "outliers")
        ],
    )


def search(model_search: Path, tune: Path) -> dict[str, Any]:
    """How the model was chosen and tuned: the fields latency_ms, leaderboard, tuning and history of
    the report.
    """
    board = pd.read_csv(model_search / "leaderboard.csv").drop(columns="candidate")
    compared = json.loads((model_search / "search.json").read_text())
    trials = pd.read_csv(tune / "trials.csv")
    trials = trials.assign(stopped=trials["state"] != "COMPLETE").drop(columns="state")
    settings = json.loads((tune / "search.json").read_text())
    history = pd.read_csv(tune / "history.csv")
    return {
        "latency_ms": float(board["latency/p50_ms"].to_numpy(dtype=np.float64)[0]),
        "leaderboard": page.Leaderboard(
            rows=board, metric=compared["metric"], budget_ms=compared["latency_budget_ms"]
        ),
        "tuning": page.Tuning(
            rows=trials, metric=settings["metric"], direction=settings["direction"]
        ),
        "history": history if len(history) > 1 else None,
    }


def caveats(rows: pd.DataFrame, winner: Candidate, model_search: Path) -> list[str]:
    """What a reader of the figures should know; rows: the table of the test images."""
    caveats = [
        "The test images come from the same source as the training images; other cameras or "
        "places may differ."
    ]
    if rows["suspect"].any():
        caveats.append(
            f"{int(rows['suspect'].sum())} of the test labels are doubted by label-check and "
            f"were kept as given."
        )
    if (rows["soft_label"] != "").any():
        caveats.append("Some labels are graded; accuracy counts the likelier class as the truth.")
    if winner.model.features.get("weights") == "random":
        caveats.append("The backbone started from random weights, as configured.")
    return [*caveats, *json.loads((model_search / "search.json").read_text())["better_but_slow"]]


def _shown(folder: Path, kind: str) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """The first rows of a list of label-check, as text, with their pictures."""
    pictures = store.read_array(folder / f"{kind}.npy")
    rows = pd.read_csv(folder / f"{kind}.csv", dtype=str, keep_default_na=False).head(len(pictures))
    told = [{str(key): str(value) for key, value in row.items()} for row in rows.to_dict("records")]
    yield from zip(told, pictures, strict=True)
