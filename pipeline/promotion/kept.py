"""What the store keeps of a version beside its file: figures, code, data and settings."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from pipeline.evaluation import evidence
from pipeline.evaluation.evidence import Evidence
from pipeline.promotion import limits
from pipeline.promotion.registry import NO_ANSWER, Registry
from pipeline.runs import provenance, tracking

T = TypeVar("T")
# Shown of each version: the name in evidence.json, and in words.
FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
}
ASIDE = ("serving", "monitor", "promotion")  # sections that change no model


@dataclass(frozen=True)
class Kept:
    """Texts by what they are about; `settings` is the whole configuration, or the winner alone."""

    figures: Mapping[str, str]
    origin: Mapping[str, str]
    settings: Mapping[str, Any]


def of(registry: Registry, version: ModelVersion) -> Kept:
    """Of a version: its tags, and where its runs are in the store, what they hold."""
    tags = version.tags
    evaluated = _made("evaluate", tags)
    whole = evaluated and _file(evaluated, evidence.FILE, Evidence.model_validate_json)
    figures = {
        words: _interval(whole, name) if whole else _figure(tags, f"test/{name}")
        for name, words in FIGURES.items()
    }
    figures["ms for one image"] = _figure(tags, "latency/p50_ms")
    return Kept(figures, _origin(tags), _settings(registry, version))


def _origin(tags: Mapping[str, str]) -> dict[str, str]:
    ingested = _made("ingest", tags)
    counts = ingested.data.metrics if ingested else {}
    return {
        "commit": provenance.mark(tags),
        "images": tags.get("data.ingest", "unknown")[:7],
        **{
            f"images: {name.removeprefix('n_')}": f"{n:,.0f}"
            for name, n in sorted(counts.items())
            if name.startswith("n_")
        },
        "labels and split": tags.get("data.label-check", "unknown")[:7],
        "test images": tags.get("test/n", "unknown"),
    }


def _settings(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """The configuration of the rebuild that registered it, less what runs beside the pipeline."""
    winner = json.loads(version.tags.get("winner", "{}"))
    own = {"seed": version.tags.get("seed", "-"), "chosen": winner}
    try:
        run = registry.client.get_run(str(version.run_id))
        rebuild = registry.client.get_run(run.data.tags["mlflow.parentRunId"])
    except (*NO_ANSWER, KeyError):
        return own
    whole = _file(rebuild, "config.json", json.loads) or {}
    return {**own, **{key: value for key, value in whole.items() if key not in ASIDE}}


def _made(stage: str, tags: Mapping[str, str]) -> Run | None:
    output = tags.get(f"data.{stage}", "")
    return tracking.run_that_made(stage, output) if output else None


def _file(run: Run, name: str, read: Callable[[str], T]) -> T | None:
    """A file of a run; None where it is not there, or cannot be read."""
    try:
        return read(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{name}"))
    except (*NO_ANSWER, ValueError):
        return None


def _interval(whole: Evidence, name: str) -> str:
    figure = whole.figures.get(name)
    if figure is None:
        return "-"
    return f"{figure.value:.4g}{_between(figure.low, figure.high)}"


def _figure(tags: Mapping[str, str], tag: str) -> str:
    value = limits.number(tags, tag)
    if value is None:
        return "-"
    low, high = (limits.number(tags, f"{tag}_{side}") for side in ("low", "high"))
    return f"{value:.4g}{_between(low, high)}"


def _between(low: float | None, high: float | None) -> str:
    return f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
