"""export: data/tune + data/preprocess/dev + data/evaluate/metrics.json -> data/export, and a
registered version.

model.onnx         uint8 images (n, size_px, size_px, 3) -> probs float32 (n, k): normalise,
                   network, temperature, softmax;
                   ood float32 (n,), how strange to the training images; sketch float32 (n, 16),
                   where among them
signature.json     names, dtypes and shapes of inputs and outputs, class names, preprocessing
thresholds.json    abstain: the confidence below which to say nothing; ood: the score above which an
                   image is strange
reference.parquet  a row a validation image, what serving would record of it: the reference for
                   drift
card.md            what the model is, how good, on what, from which data and code

Thresholds and reference come from validation images, never from test; their probabilities are those
of a network that had not seen them. Strangeness is measured against the training images.
"""

import json
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from pipeline.config import Config
from pipeline.exported import reference, write
from pipeline.exported.signature import SKETCH
from pipeline.runs import lineage, provenance, tracking
from pipeline.storage import store
from pipeline.training import network, samples

TOLD = (
    "test/accuracy",
    "test/accuracy_low",
    "test/accuracy_high",
    "test/f1_macro",
    "test/ece",
    "test/log_loss",
)


def run(
    cfg: Config,
    *,
    preprocess_dev: Path,
    tune: Path,
    evaluate_metrics: Path,
    label_check_metrics: Path,
    out: Path,
) -> dict[str, float]:
    """Write the model so that it runs without torch, prove that it is the same model, and register
    it.
    """
    trained, winner, classes, size_px = network.load(tune)
    images = store.read_array(preprocess_dev / "images.npy")
    some = np.linspace(0, len(images) - 1, min(cfg.export.parity_images, len(images))).astype(int)
    train, val = (samples.load(preprocess_dev, classes, split=name) for name in ("train", "val"))
    strangeness = reference.density_of(cfg.export, trained, train, cfg.seed)
    deployed = write.Deployed(trained, strangeness)
    write.write_onnx(deployed, classes, size_px, cfg.export.opset, out / "model.onnx")
    agreed = write.parity(deployed, out / "model.onnx", images[some], cfg.export.parity_tolerance)
    took = write.latency(out / "model.onnx", images[:1], cfg.export.latency_runs)
    signature = json.dumps(_signature(classes, size_px, cfg), indent=1, ensure_ascii=False)
    (out / "signature.json").write_text(signature + "\n", encoding="utf-8")
    rows = reference.reference(*reference.strange(trained, strangeness, val), val, tune, classes)
    rows.to_parquet(out / "reference.parquet", index=False)
    thresholds = reference.thresholds(cfg.export, rows)
    (out / "thresholds.json").write_text(json.dumps(thresholds, indent=1) + "\n", encoding="utf-8")
    tested = json.loads(evaluate_metrics.read_bytes())
    code, made = provenance.code_tags(), lineage.outputs()
    (out / "card.md").write_text(
        write.card(
            winner,
            classes,
            size_px,
            tested,
            thresholds,
            data_hash=made.get("data/ingest", "unknown"),
            commit=provenance.in_words(code),
        ),
        encoding="utf-8",
    )
    tags = {
        **{key: value for key, value in code.items() if key.startswith("git.")},
        "seed": str(cfg.seed),
        **{f"data.{Path(path).name}": md5 for path, md5 in made.items() if path != "data/export"},
        **{key: f"{tested[key]:.4f}" for key in TOLD},
        "test/n": f"{tested['test/n']:.0f}",
        **{key: f"{value:.3g}" for key, value in agreed.items()},
        "leaks": f"{json.loads(label_check_metrics.read_bytes())['leaks']:.0f}",
        "latency/p50_ms": f"{took['latency/p50_ms']:.2f}",
        "winner": json.dumps(OmegaConf.to_container(OmegaConf.load(tune / "best.yaml"))),
    }
    tracking.register(out, cfg.export.registered_name, tags=tags)
    return {**agreed, **took, "size_mb": (out / "model.onnx").stat().st_size / 1e6}


def _signature(classes: list[str], size_px: int, cfg: Config) -> dict[str, object]:
    return {
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, size_px, size_px, 3]}],
        "outputs": [
            {"name": "probs", "dtype": "float32", "shape": [-1, len(classes)]},
            {"name": "ood", "dtype": "float32", "shape": [-1]},
            {"name": "sketch", "dtype": "float32", "shape": [-1, SKETCH]},
        ],
        "classes": classes,
        "preprocess": cfg.preprocess.model_dump() | {"blur_faces": cfg.blur_faces},
    }
