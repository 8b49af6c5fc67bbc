"""export: data/tune + data/preprocess/dev + data/evaluate (evidence, sets, metrics) ->
data/export, registered.

model.onnx         uint8 images (n, size_px, size_px, 3) -> the outputs of exported/signature
signature.json     names, dtypes and shapes of inputs and outputs, class names, preprocessing
thresholds.json    abstain: the confidence below which to say nothing; ood: the score above which an
                   image is strange; sets: the probability from which a class is in a conformal set
reference.parquet  one row per validation image, what serving would record of it
card.md            what the model is, how good, on what, from which data and code

Thresholds and reference come from validation images, never from test; their probabilities are those
of a network that had not seen them. Strangeness is measured against the training images.
"""

import json
from pathlib import Path

from pipeline.config import Config
from pipeline.evaluation.evidence import Evidence
from pipeline.exported import card, reference, write
from pipeline.exported.signature import SKETCH, signature
from pipeline.exported.tags import tags
from pipeline.runs import lineage, provenance, tracking
from pipeline.storage import store
from pipeline.training import network, samples, strangeness


def run(
    cfg: Config,
    *,
    preprocess_dev: Path,
    tune: Path,
    evaluate_metrics: Path,
    evaluate_evidence: Path,
    evaluate_sets: Path,
    label_check_metrics: Path,
    out: Path,
) -> dict[str, float]:
    """Write the model to run without torch, prove that it is the same model, and register it."""
    trained, winner, classes, size_px = network.load(tune)
    images = store.read_array(preprocess_dev / "images.npy")
    train, val = (samples.load(preprocess_dev, classes, split=name) for name in ("train", "val"))
    strange_to = strangeness.density_of(cfg.export, trained, train, cfg.seed, sketch=SKETCH)
    deployed = write.Deployed(trained, strange_to)
    checked = write.write_checked(deployed, classes, size_px, cfg.export, images, out)
    scored = strangeness.strange(trained, strange_to, val)
    rows = reference.reference(*scored, val, tune, classes)
    rows.to_parquet(out / "reference.parquet", index=False)
    sets = json.loads(evaluate_sets.read_bytes())
    thresholds = reference.thresholds(cfg.export, rows, sets)
    preprocess = cfg.preprocess.model_dump() | {"blur_faces": cfg.blur_faces}
    described = signature(classes, size_px, preprocess)
    for name, content in {"signature": described, "thresholds": thresholds}.items():
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (out / f"{name}.json").write_text(text, encoding="utf-8")
    tested = json.loads(evaluate_metrics.read_bytes())
    leaks = json.loads(label_check_metrics.read_bytes())["leaks"]
    code, outputs = provenance.code_tags(), lineage.outputs()
    commit, data_hash = provenance.in_words(code), outputs.get("data/ingest", "unknown")
    known = Evidence.model_validate_json(evaluate_evidence.read_bytes())
    text = card.card(winner, size_px, known, thresholds, data_hash=data_hash, commit=commit)
    (out / "card.md").write_text(text, encoding="utf-8")
    record = tags(code, outputs, cfg.seed, tested, checked, leaks, tune)
    tracking.register(out, cfg.name, tags=record)
    return {**checked, "size_mb": (out / "model.onnx").stat().st_size / 1e6}
