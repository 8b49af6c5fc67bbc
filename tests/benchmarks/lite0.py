"""An exported folder with EfficientNet-Lite0 at 224 pixels and a random head, as the export stage
would write it.
"""

import json
from pathlib import Path

import numpy as np
import torch

from pipeline import config
from pipeline.exported import write
from pipeline.training import density, network

CLASSES = [f"class {i}" for i in range(10)]
PX = 224


def export(folder: Path, *, seed: int = 0) -> Path:
    """Made in the folder of the project, whose conf/ names the backbone; versions of different
    seeds differ in their head.
    """
    torch.manual_seed(seed)
    made = network.build(
        config.load("candidates").candidates["lite0"],
        n_classes=len(CLASSES),
        size_px=PX,
        symmetry="none",
    ).eval()
    random = np.random.default_rng(seed)
    with torch.inference_mode():
        features = made.extractor(
            torch.from_numpy(random.integers(0, 256, (32, PX, PX, 3), dtype=np.uint8))
        ).numpy()
    folder.mkdir(parents=True)
    deployed = write.Deployed(made, density.fit(features, components=8, sketch=16, seed=seed))
    write.write_onnx(
        deployed, CLASSES, PX, config.load("export").export.opset, folder / "model.onnx"
    )
    preprocess = (
        config.load("preprocess").preprocess.model_copy(update={"size_px": PX}).model_dump()
    )
    inputs = [{"name": "images", "dtype": "uint8", "shape": [-1, PX, PX, 3]}]
    widths: dict[str, list[int]] = {"probs": [len(CLASSES)], "ood": [], "sketch": [16]}
    outputs = [
        {"name": name, "dtype": "float32", "shape": [-1, *width]} for name, width in widths.items()
    ]
    signature = {"inputs": inputs, "outputs": outputs, "classes": CLASSES, "preprocess": preprocess}
    (folder / "signature.json").write_text(json.dumps(signature) + "\n")
    (folder / "thresholds.json").write_text(
        json.dumps({"abstain": {"confidence": 0.5}, "ood": {"score": 2.0}}) + "\n"
    )
    return folder
