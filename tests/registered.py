"""Registered versions made by hand: an ONNX file of a few bytes, and the tags that export puts on a
version.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import yaml
from conftest import ROOT
from mlflow.tracking import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from pipeline.runs import tracking
from pipeline.storage import table

CLASSES = ["cat", "dog"]
SIZE = 8
PREPROCESS = yaml.safe_load((ROOT / "conf/preprocess/default.yaml").read_text())
PASSING = {
    "git.commit": "0123456789abcdef",
    "git.dirty": "false",
    "seed": "0",
    "leaks": "0",
    "data.ingest": "fedcba9876",
    "test/accuracy": "0.9500",
    "test/accuracy_low": "0.9300",
    "test/accuracy_high": "0.9700",
    "test/ece": "0.0200",
    "test/ece_by_chance": "0.0500",
    "test/n": "400",
    "latency/p50_ms": "12.00",
    "parity/max_difference": "1.9e-06",
}


def onnx_file(file: Path, threshold: float) -> Path:
    """images uint8 (n, 8, 8, 3) -> probs (n, 2): `dog` where the mean grey value is above the
    threshold.
    """
    weights = numpy_helper.from_array(np.array([[-1.0, 1.0]], np.float32), "weights")
    bias = numpy_helper.from_array(np.array([threshold, -threshold], np.float32), "bias")
    axes = numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes")
    shape = numpy_helper.from_array(np.array([-1, 1], np.int64), "shape")
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "shape"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    probs = helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "tiny", [images], [probs], [weights, bias, axes, shape])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), file
    )
    return file


def register(
    folder: Path,
    threshold: float = 128,
    classes: list[str] = CLASSES,
    preprocess: dict[str, object] | None = None,
    **tags: str | None,
) -> str:
    """A version with passing tags, changed or (None) taken away by name; returns its number.
    `candidate` follows.
    """
    client = tracking.connect()
    made = folder / f"files-{len(list(folder.glob('files-*')))}"
    made.mkdir(parents=True)
    onnx_file(made / "model.onnx", threshold)
    prepared = PREPROCESS | (preprocess or {})
    (made / "signature.json").write_text(json.dumps({"classes": classes, "preprocess": prepared}))
    if not client.search_registered_models("name = 'fieldmark'"):
        client.create_registered_model("fieldmark")
    held = {key: value for key, value in {**PASSING, **tags}.items() if value is not None}
    number = str(client.create_model_version("fieldmark", made.as_uri(), tags=held).version)
    client.set_registered_model_alias("fieldmark", "candidate", number)
    return number


def write_test_images(folder: Path, n: int = 40) -> Path:
    """n grey squares from dark to bright; the brighter half are dogs."""
    shades = np.linspace(0, 255, n).astype(np.uint8)
    labels = np.where(shades > 128, "dog", "cat").astype(object)
    rows = pd.DataFrame(
        {"id": [f"i{i}" for i in range(n)], "name": [f"{i}.png" for i in range(n)], "label": labels}
    )
    rows = rows.assign(
        soft_label="",
        group="",
        stratum="",
        given_split="",
        width=SIZE,
        height=SIZE,
        format="PNG",
        n_bytes=10,
        weight=1.0,
        metadata="{}",
    )
    table.write(rows, folder)
    np.save(folder / "images.npy", np.broadcast_to(shades[:, None, None, None], (n, SIZE, SIZE, 3)))
    return folder


def aliases(client: MlflowClient) -> dict[str, str]:
    return {
        alias: str(number)
        for alias, number in client.get_registered_model("fieldmark").aliases.items()
    }
