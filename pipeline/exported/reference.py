"""Thresholds and the reference for drift, both from the validation images."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Export
from pipeline.evaluation import abstention
from pipeline.labels import quality
from pipeline.storage import csvs
from pipeline.training.samples import Samples


def reference(
    ood: np.ndarray, sketch: np.ndarray, val: Samples, tune: Path, classes: list[str]
) -> pd.DataFrame:
    """One row per validation image: what serving would record of it."""
    dtype = {"id": str, "label": str}  # classes may be digits
    predictions = csvs.read(tune / "validation.csv", dtype=dtype, keep_default_na=False)
    probs = predictions[[f"p_{name}" for name in classes]].to_numpy(np.float64)
    scores = pd.DataFrame([quality.scores(image) for image in val])
    return pd.DataFrame(
        {
            "id": predictions["id"],
            "label": predictions["label"],
            "predicted": np.array(classes, dtype=object)[probs.argmax(1)],
            "confidence": probs.max(1),
            "ood": ood,
            **{f"sketch_{i}": sketch[:, i] for i in range(sketch.shape[1])},
            "brightness": scores["brightness"],
            "sharpness": scores["blur"],
        }
    )


def thresholds(
    settings: Export, reference: pd.DataFrame, sets: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Where the model abstains, and from where on an image is strange to it.

    sets: from which probability on a class is in a conformal set, as evaluate measured it.
    """
    correct = (reference["predicted"] == reference["label"]).to_numpy()
    abstain = abstention.abstention(
        reference["confidence"].to_numpy(),
        correct,
        target_risk=settings.target_risk,
        delta=settings.risk_delta,
    )
    score = float(np.quantile(reference["ood"], settings.ood_quantile))
    return {
        "abstain": asdict(abstain),
        "ood": {"score": score, "quantile": settings.ood_quantile},
        "sets": sets,
    }
