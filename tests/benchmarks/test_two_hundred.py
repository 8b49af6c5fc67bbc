"""Two hundred images of a rebuilt project through every way to a prediction, `mlflow models serve`
as a server of its own included.

    pytest -m benchmark tests/benchmarks/test_two_hundred.py -s

FIELDMARK_PROJECT: the folder of a project after `dvc repro`; by default this one.
"""

import os
from pathlib import Path

import numpy as np
import parity
import pytest
from conftest import ROOT

N = 200
PROJECT = Path(os.environ.get("FIELDMARK_PROJECT", ROOT))


@pytest.mark.benchmark
@pytest.mark.filterwarnings("ignore")  # MLflow's and torch's own
@pytest.mark.skipif(
    not (PROJECT / "data" / "export" / "thresholds.json").exists(),
    reason="needs a project after `dvc repro`",
)
def test_every_way_agrees(tmp_path: Path) -> None:
    images = parity.Images(PROJECT, N, tmp_path)
    own = parity.in_training(PROJECT, images)
    ways = {
        "ONNX Runtime": parity.in_onnx(PROJECT, images)[0],
        "fieldmark predict": parity.by_command(PROJECT, images)[0],
        "POST /predict": parity.by_server(
            PROJECT, images, ROOT / "conf" / "serving" / "default.yaml"
        )[0],
        "mlflow pyfunc": parity.by_pyfunc(PROJECT, images)[0],
        "mlflow models serve": parity.by_mlflow_server(PROJECT, images)[0],
    }
    print(
        f"\n{len(own)} images; training's own probabilities range from {own.min():.3g} to "
        f"{own.max():.3g}"
    )
    for name, probs in ways.items():
        differ = int((probs.argmax(1) != own.argmax(1)).sum())
        print(
            f"{name:>20}: largest difference {np.abs(probs - own).max():.2g}, other top "
            f"classes {differ}"
        )
    assert all(
        np.abs(probs - own).max() < 1e-3 and (probs.argmax(1) == own.argmax(1)).all()
        for probs in ways.values()
    )
