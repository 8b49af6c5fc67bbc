"""What export makes of the validation images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import draw

from pipeline import config
from pipeline.exported import reference
from pipeline.storage import store, table
from pipeline.training import network, samples


@pytest.mark.parametrize(
    "classes", [["ant", "bee"], ["0", "1"], ["007", "7"], ["None", "nan"]], ids=str
)
def test_a_model_that_is_always_right_abstains_from_nothing_whatever_its_classes_are_called(
    tmp_path: Path, classes: list[str]
) -> None:
    """Read from CSV as numbers, the labels of digits equalled no prediction, and the model
    abstained from everything.
    """
    labels, n = [classes[i % 2] for i in range(200)], 200
    blank = {name: ["" if kind == "str" else 1] * n for name, kind in table.INGEST_COLUMNS.items()}
    table.write(
        pd.DataFrame(
            {**blank, "id": [f"{i:03d}" for i in range(n)], "label": labels, "split": "val"}
        ),
        tmp_path / "dev",
    )
    store.open_array(tmp_path / "dev" / "images.npy", (n, 32, 32, 3), np.uint8)[:] = draw(
        [i % 2 for i in range(n)], px=32
    )
    logits = np.array([[4.0, 0.0] if label == classes[0] else [0.0, 4.0] for label in labels])
    network.predictions(tmp_path / "dev", "val", logits, classes).to_csv(
        tmp_path / "validation.csv", index=False
    )
    val = samples.load(tmp_path / "dev", classes, split="val")
    rows = reference.reference(np.ones(n), np.zeros((n, 16)), val, tmp_path, classes)
    assert (rows["label"].tolist(), rows["id"].iloc[7]) == (labels, "007")
    abstain = reference.thresholds(config.load("export").export, rows, {})["abstain"]
    assert (abstain["val_coverage"], abstain["val_risk"], abstain["guaranteed"]) == (1.0, 0.0, True)
