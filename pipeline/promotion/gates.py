"""What a version must show before production: its figures, and a comparison on the same images.

A missing figure fails its gate (see limits).
"""

from mlflow.entities.model_registry import ModelVersion
from rich import box
from rich.console import Console
from rich.table import Column, Table

from pipeline import FieldmarkError
from pipeline.config import Config
from pipeline.promotion import comparison, limits, speed
from pipeline.promotion.limits import Gate, Tags
from pipeline.repository import state

# Forced, since a commit alone makes no stage out of date.
AGAIN = "dvc repro && dvc repro --force --single-item export"


def judge(
    cfg: Config, version: ModelVersion, now: ModelVersion | None, before: str | None
) -> list[Gate]:
    """Every gate, in the order printed.

    now: the version in production. before: the version last in production, which may no longer
    exist.
    """
    settings, tags = cfg.promotion, version.tags
    return [
        *limits.accuracy(tags, settings),
        _beside_production(cfg, version, now, before),
        limits.calibration(tags, settings.max_ece),
        speed.gate(settings, version, now),
        *limits.of_ones_own(tags, settings),
        limits.figure(
            "export parity", tags, "parity/max_difference", at_most=settings.max_parity_difference
        ),
        limits.figure("leaking groups", tags, "leaks", at_most=float(settings.max_leaks)),
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
        if text := gate.advice or gate.note:
            console.print(f"{gate.name}: {text}", markup=False)


def as_text(gates: list[Gate]) -> str:
    """The gates as text, one line per gate, for the record."""
    return "\n".join(
        f"{'passed' if g.passed else 'refused'}: {g.name}: {g.figure} ({g.limit})" for g in gates
    )


def figures(gates: list[Gate]) -> dict[str, float]:
    """Name -> figure of the gates that have one; the names are such as MLflow allows."""
    return {
        gate.name.replace(",", "").replace("(", "").replace(")", ""): gate.value
        for gate in gates
        if gate.value is not None
    }


def _commit(tags: Tags) -> Gate:
    commit, dirty = tags.get("git.commit", "missing"), tags.get("git.dirty", "missing")
    clean = commit not in {"missing", "none", "unknown"} and dirty == "false"
    edits = {"false": "", "true": ", edited"}.get(dirty, ", unknown whether edited")
    if dirty == "unknown" and "git.unknown" in tags:
        remedy = tags["git.unknown"]
    elif "git.uncommitted" in tags:
        remedy = f"commit {tags['git.uncommitted']}"
        remedy += "; `git add --force` what no commit holds" if state.LACKING in remedy else ""
    else:
        remedy = "commit what was edited"
    advice = "" if clean else f"{remedy}; then register it again: {AGAIN}"
    return Gate("clean commit", commit[:10] + edits, "no edits", clean, advice)


def _beside_production(
    cfg: Config, version: ModelVersion, now: ModelVersion | None, before: str | None
) -> Gate:
    name, limit = "beside production", f"p {cfg.promotion.alpha:g} or more"
    if now is None:
        gone = f"version {before} was deleted" if before else "nothing in production"
        return Gate(name, gone, limit, True)
    try:
        pair = comparison.compare(cfg, version, now)
    except FieldmarkError as error:
        return Gate(name, "not compared", limit, False, str(error))
    figure = f"p {pair.p_worse:.3g}: of {pair.n} images {pair.gained} gained, {pair.lost} lost"
    return Gate(name, figure, limit, pair.p_worse >= cfg.promotion.alpha, value=pair.p_worse)
