"""A model small enough to make in a test, as the export stage lays one out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SKETCH = 16


def tiny_export(
    folder: Path,
    classes: Sequence[str] = ("red", "green", "blue"),
    size: int = 32,
    *,
    bias: int = 0,
) -> Path:
    """An exported folder whose model names the strongest colour; `bias` moves the names round, as
    another version would.

    Class i answers to channel (i + bias) % 3; strange is what is bright; the sketch is made of the
    mean colour.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    weights = np.zeros((3, len(classes)), np.float32)
    weights[(np.arange(len(classes)) + bias) % 3, np.arange(len(classes))] = 0.05
    constants = {"weights": weights, "spread": random.normal(size=(3, SKETCH)).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["colour"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
        helper.make_node("ReduceMean", ["colour"], ["ood"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["colour", "spread"], ["sketch"]),
    ]
    shapes = {"probs": ["n", len(classes)], "ood": ["n"], "sketch": ["n", SKETCH]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"classes": "\n".join(classes)})
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    preprocess = {
        "size_px": size,
        "fit": "crop",
        "denoise": 0.0,
        "clahe": 0.0,
        "normalise_brightness": False,
    }
    inputs = [{"name": "images", "dtype": "uint8", "shape": [-1, size, size, 3]}]
    outputs = [
        {"name": name, "dtype": "float32", "shape": [-1, *shape[1:]]}
        for name, shape in shapes.items()
    ]
    signature = {
        "inputs": inputs,
        "outputs": outputs,
        "classes": list(classes),
        "preprocess": preprocess,
    }
    abstain = {
        "confidence": 0.6,
        "target_risk": 0.05,
        "delta": 0.05,
        "guaranteed": True,
        "val_coverage": 0.9,
        "val_risk": 0.01,
        "val_n": 99,
    }
    sets = {"level": 0.9, "by_class": True, "least_probability": [0.2] * len(classes)}
    thresholds = {"abstain": abstain, "ood": {"score": 200.0, "quantile": 0.99}, "sets": sets}
    (folder / "signature.json").write_text(json.dumps(signature, indent=1) + "\n")
    (folder / "thresholds.json").write_text(json.dumps(thresholds, indent=1) + "\n")
    return folder
