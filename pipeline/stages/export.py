"""export: data/tune + data/preprocess/dev + data/evaluate/metrics.json -> data/export, and a registered version.

model.onnx      uint8 images (n, size_px, size_px, 3) -> probs float32 (n, k): normalise, network, temperature, softmax
signature.json  names, dtypes and shapes of inputs and outputs, class names, preprocessing
card.md         what the model is, how good, on what, from which data and code
"""

import json
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from pipeline import lineage, packaging, store, tracking
from pipeline.config import Config
from pipeline.training import network

TOLD = ("test/accuracy", "test/f1_macro", "test/ece", "test/log_loss")


def run(cfg: Config, *, preprocess_dev: Path, tune: Path, evaluate_metrics: Path, out: Path) -> dict[str, float]:
    """Write the model so that it runs without torch, prove that it is the same model, and register it."""
    trained, winner, classes, size_px = network.load(tune)
    images = store.read_array(preprocess_dev / "images.npy")
    some = np.linspace(0, len(images) - 1, min(cfg.export.parity_images, len(images))).astype(int)
    packaging.write_onnx(trained, classes, size_px, cfg.export.opset, out / "model.onnx")
    agreed = packaging.parity(trained, out / "model.onnx", images[some], cfg.export.parity_tolerance)
    took = packaging.latency(out / "model.onnx", images[:1], cfg.export.latency_runs)
    (out / "signature.json").write_text(json.dumps(_signature(classes, size_px, cfg), indent=1, ensure_ascii=False) + "\n")
    tested = json.loads(evaluate_metrics.read_text())
    code, made = tracking.code_tags(), lineage.outputs()
    (out / "card.md").write_text(
        packaging.card(winner, classes, size_px, tested, data_hash=made.get("data/ingest", "unknown"), commit=code["git.commit"])
    )
    tags = {
        "git.commit": code["git.commit"], "git.dirty": code["git.dirty"], "seed": str(cfg.seed),
        **{f"data.{Path(path).name}": md5 for path, md5 in made.items() if path != "data/export"},
        **{key: f"{tested[key]:.4f}" for key in TOLD}, "latency/p50_ms": f"{took['latency/p50_ms']:.2f}",
        "config": json.dumps(OmegaConf.to_container(OmegaConf.load(tune / "best.yaml"))),
    }  # fmt: skip
    version = tracking.register(out, cfg.export.registered_name, tags=tags, example=np.array(images[:1]))
    print(f"registered {cfg.export.registered_name} version {version}, alias candidate", flush=True)
    return {**agreed, **took, "size_mb": (out / "model.onnx").stat().st_size / 1e6}


def _signature(classes: list[str], size_px: int, cfg: Config) -> dict[str, object]:
    return {
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, size_px, size_px, 3]}],
        "outputs": [{"name": "probs", "dtype": "float32", "shape": [-1, len(classes)]}],
        "classes": classes,
        "preprocess": cfg.preprocess.model_dump(),
    }
