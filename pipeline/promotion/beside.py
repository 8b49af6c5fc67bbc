"""`fieldmark compare`: two registered versions side by side.

What was turned, which code and data, figures with intervals, and a paired test on the same images.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Table

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.promotion import comparison, limits
from pipeline.promotion.registry import answering, connect
from pipeline.runs import provenance

WIDTH = 100
FIGURES = {
    "test/accuracy": "accuracy",
    "test/f1_macro": "macro F1",
    "test/log_loss": "log loss",
    "test/ece": "calibration error (ECE)",
    "latency/p50_ms": "ms for one image",
}


@answering()
def compare(cfg: Config, first: str, second: str, html: Path | None) -> None:
    """Print two versions (numbers or aliases) side by side, and write that as a page.

    Raises FieldmarkError where there is no such version, or the store does not answer.
    """
    registry = connect(cfg.name)
    one, other = registry.find(first), registry.find(second)
    if one.version == other.version:
        raise FieldmarkError(f"{first} and {second} are both version {one.version}; name two")
    console = Console(width=WIDTH, highlight=False, record=html is not None)
    console.print(side_by_side(one, other))
    console.print(paired(cfg, one, other), markup=False)
    if html is not None:
        console.save_html(str(html))


def side_by_side(one: ModelVersion, other: ModelVersion) -> Table:
    """A row for each figure, and for each setting, commit and data that differ."""
    table = Table("", *(f"version {v.version}" for v in (one, other)), box=box.SIMPLE_HEAD)
    for tag, name in FIGURES.items():
        table.add_row(name, *(_figure(version.tags, tag) for version in (one, other)))
    for name, left, right in differing(one.tags, other.tags):
        table.add_row(name, left, right)
    return table


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name and both values of what was not the same: code, data, seed, the winner's settings."""
    code = provenance.mark(one), provenance.mark(other)
    yield "commit", *code
    for name, tag in {"images": "data.ingest", "labels and split": "data.label-check"}.items():
        left, right = (tags.get(tag, "unknown")[:7] for tags in (one, other))
        yield name, left, right if left != right else "the same"
    settings = [
        {"seed": tags.get("seed", "-")} | _flat(json.loads(tags.get("winner", "{}")))
        for tags in (one, other)
    ]
    for key in sorted(settings[0].keys() | settings[1].keys()):
        left, right = (values.get(key, "-") for values in settings)
        if left != right:
            yield key, left, right


def paired(cfg: Config, one: ModelVersion, other: ModelVersion) -> str:
    """On which of today's test images one version is right and the other is not, in a sentence."""
    try:
        pair = comparison.compare(cfg, other, one)
    except FieldmarkError as error:
        return f"not compared on the same images: {error}"
    worse, better = pair.p_worse, comparison.Pair(pair.n, pair.lost, pair.gained).p_worse
    p = min(1.0, 2 * min(worse, better))
    if p < cfg.promotion.alpha:
        verdict = f"version {(one if worse < better else other).version} is better"
    else:
        verdict = "no evidence that one is better"
    return (
        f"of the same {pair.n} test images only version {other.version} is right on {pair.gained}, "
        f"only version {one.version} on {pair.lost}: {verdict} (exact McNemar test, two-sided, "
        f"p {p:.3g})"
    )


def _figure(tags: Mapping[str, str], tag: str) -> str:
    value = limits.number(tags, tag)
    if value is None:
        return "-"
    low, high = (limits.number(tags, f"{tag}_{side}") for side in ("low", "high"))
    interval = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
    return f"{value:.4g}{interval}"


def _flat(node: Any, name: str = "") -> dict[str, str]:
    if not isinstance(node, dict):
        return {name: json.dumps(node, ensure_ascii=False)}
    return {
        key: value
        for inner, child in node.items()
        for key, value in _flat(child, f"{name}.{inner}" if name else str(inner)).items()
    }
