"""Classical descriptors and kernel machines as the exported file runs them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import UNCHANGED, candidate, draw, samples

from pipeline.exported import engines, write
from pipeline.training import density
from pipeline.training.fit import fit

LABELS = [0, 1, 2, 3] * 4
IMAGES = draw(LABELS, px=32)
WORDS = {"input_px": 32, "stride_px": 6, "words": 3, "components": 4, "pyramid": [1, 2]}


@pytest.mark.slow  # exports a network each
@pytest.mark.parametrize(
    ("kind", "scales", "coding", "head"),
    [
        ("sift.SIFT", [2.0, 3.0], "fisher", "svm_rbf"),
        ("surf.SURF", [1], "histogram", "svm"),
    ],
)
def test_the_exported_file_answers_as_torch_does(
    tmp_path: Path, kind: str, scales: list[float], coding: str, head: str
) -> None:
    node: dict[str, Any] = {"_target_": f"pipeline.features.{kind}", "scales": scales, **WORDS}
    made = candidate({**node, "coding": coding}, frozen=True, head={"kind": head, "C": 1.0})
    train = samples(LABELS, 4, images=IMAGES)
    network = fit(made, train, None, symmetry="none", policy=UNCHANGED, seed=0).network.eval()
    with torch.inference_mode():
        features = network.extractor(torch.from_numpy(IMAGES)).numpy()
    deployed = write.Deployed(network, density.fit(features, components=4, sketch=16, seed=0))
    file = tmp_path / "model.onnx"
    write.write_onnx(deployed, list("abcd"), 32, 18, file)
    even = np.full((1, 32, 32, 3), 77, np.uint8)  # nothing to describe
    images = np.concatenate([IMAGES[:7], even])
    ours = write.in_torch(deployed, images)
    for engine in (engines.onnx_runtime(file), engines.openvino(file)):
        for wanted, answer in zip(ours, engine.run(images), strict=True):
            np.testing.assert_allclose(answer, wanted, rtol=5e-3, atol=5e-3)
