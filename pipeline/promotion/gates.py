"""What a version must show before it goes into production: figures of its tags, and a comparison on
the same images.

A figure that is missing fails its gate; only robustness counts where it was measured, and passes
where it was not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Column, Table

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.promotion import comparison
from pipeline.repository import state

AGAIN = "dvc repro && dvc repro --force --single-item export"  # a commit alone makes no stage stale

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Gate:
    """One gate's verdict: the figure and its limit as shown, and what to do where it did not
    pass.
    """

    name: str
    figure: str
    limit: str
    passed: bool
    advice: str = ""
    value: float | None = None


def judge(
    cfg: Config, wanted: ModelVersion, now: ModelVersion | None, before: str | None
) -> list[Gate]:
    """Every gate, in the order shown. `before` is the version last in production, which may no
    longer exist as `now`.
    """
    limits, tags = cfg.promotion, wanted.tags
    return [
        _figure("accuracy, lower bound", tags, "test/accuracy_low", at_least=limits.min_accuracy),
        _beside_production(cfg, wanted, now, before),
        _figure("calibration (ECE)", tags, "test/ece", at_most=limits.max_ece),
        _figure("latency, ms", tags, "latency/p50_ms", at_most=limits.max_latency_ms),
        *_robustness(tags, limits.robustness_floors),
        _figure(
            "export parity", tags, "parity/max_difference", at_most=limits.max_parity_difference
        ),
        _figure("leaking groups", tags, "leaks", at_most=float(limits.max_leaks)),
        _commit(tags),
    ]


def show(gates: list[Gate], title: str) -> None:
    """Print the gates, and below them what to do where one did not pass."""
    table = Table(
        "gate",
        Column("figure", overflow="fold"),
        "limit",
        Column("verdict", no_wrap=True),
        title=title,
        box=box.SIMPLE_HEAD,
    )
    for gate in gates:
        table.add_row(
            gate.name,
            gate.figure,
            gate.limit,
            "[green]passed[/]" if gate.passed else "[red]refused[/]",
        )
    console = Console(highlight=False)
    console.print(table)
    for gate in gates:
        if gate.advice:
            console.print(f"{gate.name}: {gate.advice}", markup=False)


def told(gates: list[Gate]) -> str:
    """The table as text, a line a gate, for the record."""
    return "\n".join(
        f"{'passed' if g.passed else 'refused'}: {g.name}: {g.figure} ({g.limit})" for g in gates
    )


def figures(gates: list[Gate]) -> dict[str, float]:
    """Name -> figure of the gates that have one, named as MLflow allows."""
    return {
        gate.name.replace(",", "").replace("(", "").replace(")", ""): gate.value
        for gate in gates
        if gate.value is not None
    }


def _figure(
    name: str, tags: Tags, tag: str, *, at_least: float = -math.inf, at_most: float = math.inf
) -> Gate:
    limit = f"{at_least:g} or more" if at_least > -math.inf else f"{at_most:g} or less"
    value = _number(tags, tag)
    if value is None:
        return Gate(
            name,
            "missing",
            limit,
            False,
            f"the version has no number as its tag {tag}; `dvc repro` registers one that has",
        )
    return Gate(name, f"{value:g}", limit, at_least <= value <= at_most, value=value)


def _number(tags: Tags, tag: str) -> float | None:
    try:
        value = float(tags[tag])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _robustness(tags: Tags, floors: Mapping[str, float]) -> list[Gate]:
    measured = sorted({tag for tag in tags if tag.startswith("robustness/")})
    asked = [_figure(tag, tags, tag, at_least=floors[tag]) for tag in measured if tag in floors]
    rest = [Gate(tag, tags[tag], "no floor set", True) for tag in measured if tag not in floors]
    missing = [
        Gate(tag, "not measured", f"{floor:g} or more", True)
        for tag, floor in sorted(floors.items())
        if tag not in tags
    ]
    return asked + rest + missing or [Gate("robustness", "not measured", "no floor set", True)]


def _commit(tags: Tags) -> Gate:
    commit, dirty = tags.get("git.commit", "missing"), tags.get("git.dirty", "missing")
    clean = commit not in {"missing", "none", "unknown"} and dirty == "false"
    edits = {"false": "", "true": ", edited"}.get(dirty, ", unknown whether edited")
    if dirty == "unknown" and "git.unknown" in tags:
        first = tags["git.unknown"]
    elif "git.uncommitted" in tags:
        first = f"commit {tags['git.uncommitted']}"
        first += "; `git add --force` what no commit holds" if state.LACKING in first else ""
    else:
        first = "commit what was edited"
    advice = "" if clean else f"{first}; then register it again: {AGAIN}"
    return Gate("clean commit", commit[:10] + edits, "no edits", clean, advice)


def _beside_production(
    cfg: Config, wanted: ModelVersion, now: ModelVersion | None, before: str | None
) -> Gate:
    name, limit = "beside production", f"p {cfg.promotion.alpha:g} or more"
    if now is None:
        gone = f"version {before} was deleted" if before else "nothing in production"
        return Gate(name, gone, limit, True)
    try:
        pair = comparison.compare(cfg, wanted, now)
    except FieldmarkError as error:
        return Gate(name, "not compared", limit, False, str(error))
    shown = f"p {pair.p_worse:.3g}: of {pair.n} images {pair.gained} gained, {pair.lost} lost"
    return Gate(name, shown, limit, pair.p_worse >= cfg.promotion.alpha, value=pair.p_worse)
